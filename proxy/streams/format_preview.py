"""FormatPreview: what a stream's format writes, without the cursors, which differ from process to process."""

from __future__ import annotations

from typing import Final

from config.model.files import StreamConfig
from proxy.core.events import STEP_STREAM, End, Event, Reset, StepGap
from proxy.formats.machine import Facts, Refused, Sent
from proxy.formats.wire import SSE, machine_of, wire_of
from proxy.rules.dry_run import UNSENT, Cause, Made
from proxy.rules.rule import Message

NO_RUN: Final = "00000000-0000-0000-0000-000000000000"
HELD: Final = "held until the attempt of its step cannot fail any more"
WAITS: Final = "it waits for more chunks of its step, to be merged with them"


class FormatPreview:
    """A machine of a stream's format; `reasons`: why it refused something, since they were last taken."""

    def __init__(self, stream: StreamConfig) -> None:
        self.format = stream.format
        self._wire = wire_of(stream.format, controls=stream.control == "named")
        self._hold = stream.hold
        self._refused: list[str] = []
        self._machine = machine_of(
            stream.format,
            Facts(NO_RUN, NO_RUN, stream.name, "preview", 0),
            hold=stream.hold,
            controls=self._wire.controls,
            failed=lambda rule, event_type, reason: self._refused.append(reason),
        )

    def begin(self) -> bytes:
        """What opens the message; empty for ``sse``."""
        return self._bytes(self._machine.begin())

    def write(self, made: Made) -> bytes:
        """What is written for one thing that the stream does."""
        if made.cause in UNSENT:
            return b""
        if isinstance(made.item, Event):
            return self.message(made.item, made.message)
        return self.end(made.item.status) if isinstance(made.item, End) else self.control(made.item)

    def message(self, event: Event, message: Message | None) -> bytes:
        """What is written for `event`, which became `message`."""
        try:
            return self._bytes(self._machine.message(event, self._sent(message)))
        except Refused as refused:
            self._refused.append(str(refused))
            return self._bytes(self._machine.message(event, None))

    def _sent(self, message: Message | None) -> Sent | None:
        if message is None:
            return None
        if self.format == SSE:
            return Sent(message.event or "", message.data, message.rule)
        return None if message.part is None else Sent(message.part, message.value, message.rule)

    def control(self, item: Reset | StepGap) -> bytes:
        """What is written for a reset or a gap."""
        return self._bytes(self._machine.control(item))

    def end(self, status: str) -> bytes:
        """What is written at the verified end."""
        return self._bytes(self._machine.end(status))

    def silence(self, made: Made) -> str:
        """Why nothing was written for something that is forwarded."""
        if made.cause is Cause.WAITS:
            return WAITS
        reasons, self._refused = self._refused, []
        if reasons:
            return f"refused: {'; '.join(reasons)}"
        if self._hold and isinstance(made.item, Event) and made.item.type == STEP_STREAM:
            return HELD
        return f"`{self.format}` writes nothing for it"

    def _bytes(self, blocks: list[bytes]) -> bytes:
        if not self._wire.framed:
            return b"".join(block + b"\n" for block in blocks if block)
        return b"".join(block + b"\n\n" for block in blocks)
