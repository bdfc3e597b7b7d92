"""``text``: the text alone, as it is, with no frames around it. The end of the body is the end of the run.

What was sent cannot be taken back, so a step's text is held until its attempt cannot fail any more
(`proxy.formats.holding`). A body that ends for any other reason than the run's end is cut off, so that a
client does not take a part for the whole (`proxy.formats.wire`).
"""

from __future__ import annotations

from typing import Final

from proxy.core.events import Event, GapCause, Reset, StepGap
from proxy.formats.machine import TEXT, Facts, Sent
from proxy.formats.transcript import Part, Transcript

GAP_HEADER: Final = b"x-stream-gap"
"""Names the causes of what is missing of the text, as far as it is known when the response begins."""


class PlainText:
    """One run as one text."""

    def __init__(self, facts: Facts) -> None:
        self.log = Transcript(_delta, _nothing)
        self._gaps: set[str] = set()
        self._part = Part(TEXT)
        self.log.add(self._part)

    def headers(self) -> list[tuple[bytes, bytes]]:
        causes = ", ".join(sorted(self._gaps)).encode()
        return [(GAP_HEADER, causes)] if causes else []

    def begin(self) -> list[bytes]:
        return []

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        return [self.log.append(self._part, sent.data)] if sent is not None and sent.data else []

    def control(self, item: Reset | StepGap) -> list[bytes]:
        if isinstance(item, StepGap):
            self._gaps.add(item.cause.value)
        return []

    def end(self, status: str) -> list[bytes]:
        return self.log.add(Part("end"), b"")  # nothing to read, but a place after everything else

    def again(self, cause: str) -> list[bytes]:
        return []

    def trim(self, size: int) -> None:
        self.log.trim(size)


def _delta(part: Part, text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _nothing(cause: GapCause, part: Part) -> bytes | None:
    return None
