"""``openai``: chunks of a chat completion, as OpenAI's API streams them (``chat.completion.chunk``).

Source: npm's ``openai`` 7.59.0, ``core/streaming.ts``: it ignores comments and ids, throws at a chunk with an
``error`` field, and stops at ``[DONE]``. What was sent cannot be taken back, so a step's text is held until
its attempt cannot fail any more (`proxy.formats.holding`). A gap is a comment.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core import json_codec
from proxy.core.events import Event, GapCause, Reset, StepGap
from proxy.formats.machine import ERROR, REASONING, Facts, Sent
from proxy.formats.transcript import Part, Transcript

DONE: Final = b"data: [DONE]"
FINISH_REASONS: Final = {"completed": "stop", "failed": "error", "cancelled": "stop"}
_FIELDS: Final = {"text": "content", REASONING: "reasoning_content"}


class OpenAi:
    """One run as one chat completion."""

    def __init__(self, facts: Facts) -> None:
        self._head = {
            "id": f"chatcmpl-{facts.run_id}",
            "object": "chat.completion.chunk",
            "created": facts.created,
            "model": facts.stream,
        }
        self.log = Transcript(self._delta, _lost)
        self._last: Part | None = None
        self._errors: list[bytes] = []

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + json_codec.encode({**self._head, "choices": [choice]})

    def _delta(self, part: Part, text: str) -> bytes:
        return self._chunk({_FIELDS[part.kind]: text})

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def begin(self) -> list[bytes]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        if sent is None:
            return []
        if sent.part == ERROR:
            error = {"message": sent.data, "type": "run_error", "param": None, "code": None}
            self._errors.append(b"data: " + json_codec.encode({"error": error}))
            return []
        if not sent.data:
            return []
        if self._last is None or self._last.kind != sent.part:
            self._last = Part(sent.part, step=event.step, attempt=event.attempt)
            self.log.add(self._last)
        return [self.log.append(self._last, sent.data)]

    def control(self, item: Reset | StepGap) -> list[bytes]:
        if isinstance(item, Reset):
            return []  # the text of the failed attempt was never sent
        self._last = None
        return self.log.add(Part("gap"), _comment(item))

    def end(self, status: str) -> list[bytes]:
        last = self._errors or [self._chunk({}, FINISH_REASONS.get(status, "stop"))]
        return self.log.add(Part("end"), *last, DONE)

    def again(self, cause: str) -> list[bytes]:
        return [_comment(StepGap(GapCause(cause), None, None, None))]

    def trim(self, size: int) -> None:
        self.log.trim(size)


def _comment(gap: StepGap) -> bytes:
    return b": stream.gap " + json_codec.encode(gap.data)


def _lost(cause: GapCause, part: Part) -> bytes:
    return _comment(StepGap(cause, part.step, part.attempt, None))
