"""MessageWriter: the frames of a channel whose format is the one message of a chat protocol.

Items go through the rules and the format's machine; each block that comes out is a frame. A client that joins
is sent the message so far in one piece, made once for all that join at one place, and then the frames after
it. A client that has fallen behind the backlog is sent what it lacks in one piece, too. So it loses nothing,
and no gap is announced.

    frames        1   2   3   4   5   6        the cursor of each is its number
    a join at 4   [ piece: 4-1, 4-2, 4 ] 5 6   within the piece the cursor counts its blocks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec import Struct, structs

from proxy.core.events import End, Event, GapCause, Item, Reset, StepGap, step_key
from proxy.formats.machine import Machine, Refused, Sent, message_at
from proxy.formats.wire import Wire
from proxy.log.cursor import Cursor
from proxy.log.frames import Frames
from proxy.observability.counters import StreamCounters
from proxy.rules.rule import Message
from proxy.rules.ruleset import DecodedEvent, Rules
from proxy.rules.whole import Repair, WholeTexts
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.notices import Notices
from proxy.streams.refused_work import RefusedWork


class Start(Struct, frozen=True, gc=False):
    """Where a client's frames begin: after `place`, with `opening` before them, or a notice of `gap`.

    `headers` are added to those of the response.
    """

    place: int
    gap: GapCause | None = None
    opening: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class MessageWriter:
    """The message of one stream on one run, as frames in `backlog`."""

    def __init__(
        self,
        machine: Machine,
        backlog: Backlog[Frame],
        *,
        wire: Wire,
        rules: Rules,
        ids: Frames,
        counts: StreamCounters,
        notices: Notices,
        grew: Callable[[int], None],
        unforeseen: Callable[[Exception], None],
        merged: bool = False,
    ) -> None:
        """`grew` is called with every change of the bytes that the machine holds."""
        self._machine = machine
        self._wire = wire
        self._rules = rules
        self._ids = ids
        self._backlog = backlog
        self._counts = counts
        self._notices = notices
        self._grew = grew
        self._unforeseen = unforeseen
        self._merged = merged
        self._texts = WholeTexts(rules, merged=merged) if rules.repairs_texts else None
        self._refused = RefusedWork(rules, merged=merged)
        self._joined: tuple[int, bytes] | None = None  # the message so far, for clients at this place
        self.size = 0

    # -- items in --

    def frames(self, item: Item, decoded: DecodedEvent | None) -> tuple[Frame, ...]:
        """The frames that `item` becomes, numbered on from the backlog's last one."""
        try:
            blocks = self._blocks(item, decoded)
        except Exception as error:
            self._unforeseen(error)
            blocks = self._machine.end(item.status) if isinstance(item, End) else []
        first = self._backlog.last + 1
        # A machine that failed half-way has numbered blocks that are not sent: empty frames take their place.
        missing = self._machine.log.place - self._backlog.last - len(blocks)
        blocks = [*[b""] * missing, *blocks]
        self._keep_within()
        last = first + len(blocks) - 1
        return tuple(
            Frame(self._frame(block, number, last if isinstance(item, End) else None), False)
            for number, block in enumerate(blocks, first)
        )

    def _frame(self, block: bytes, number: int, end: int | None) -> bytes:
        if not block:
            return b""
        return self._wire.frame(block, self._ids.end if number == end else self._ids.at(number))

    def _blocks(self, item: Item, decoded: DecodedEvent | None) -> list[bytes]:
        """The blocks of `item`, and before them what repairs a text that it completes."""
        texts = self._texts
        if texts is None:
            return self._own_blocks(item, decoded)
        blocks: list[bytes] = []
        for outcome in texts.before(item):
            if isinstance(outcome, Repair):
                blocks += self._message(outcome.event, outcome.message)
            else:
                blocks += self._own_blocks(outcome, None)
        if not (isinstance(item, StepGap) and texts.hold(item)):
            blocks += self._own_blocks(item, decoded)
        return blocks

    def _own_blocks(self, item: Item, decoded: DecodedEvent | None) -> list[bytes]:
        if isinstance(item, Event):
            message = self._rules.message(item, decoded)
            if message is not None and self._texts is not None:
                self._texts.record(item, message)
            return self._message(item, message) if message is not None else self._unsent(item)
        if isinstance(item, End):
            return self._machine.end(item.status)
        if item.step is not None and not self._rules.forwards_chunks(item.step, item.workflow):
            return []  # a stream that never forwards a step's chunks misses none of them
        if isinstance(item, Reset):
            self._counts.resets += 1
        else:
            self._counts.gaps[item.cause.value] += 1
        self._notices.note(self._backlog.last + 1, item)
        return self._control(item)

    def _unsent(self, event: Event) -> list[bytes]:
        """The blocks for an event that became no message: it may end a text, and a refused one is a gap."""
        gap = self._refused.unannounced(event)
        if gap is not None and not (self._texts is not None and self._texts.hold(gap)):
            return [*self._own_blocks(gap, None), *self._machine.message(self._named(event), None)]
        return self._machine.message(self._named(event), None)

    def _message(self, event: Event, message: Message) -> list[bytes]:
        """The blocks for `event`."""
        if message.part is None:
            return self._machine.message(self._named(event), None)
        self._refused.forwarded(event)
        try:
            blocks = self._machine.message(
                self._named(event), Sent(message.part, message.value, message.rule)
            )
        except Refused as refused:
            self._rules.failed(message.rule, event.type, str(refused))
            return self._machine.message(self._named(event), None)
        self._counts.forwarded[message.rule] += 1
        return blocks

    def _named(self, event: Event) -> Event:
        """The event for the machine, which identifies steps by name: of several runs, by longer names."""
        key = step_key(event, merged=self._merged)
        return event if key == event.step else structs.replace(event, step=key)

    def _control(self, item: Reset | StepGap) -> list[bytes]:
        key = step_key(item, merged=self._merged)
        if key is None or key == item.step:
            return self._machine.control(item)
        return self._machine.control(replace(item, step=key))

    def _keep_within(self) -> None:
        """Hold as many bytes as the backlog may have, and account for them."""
        if self._machine.log.size > self._backlog.max_bytes:
            self._machine.trim(self._backlog.max_bytes)
        self._account()

    def _account(self) -> None:
        change = self._machine.log.size - self.size
        if change:
            self.size += change
            self._grew(change)

    def trim(self, to_bytes: int) -> None:
        """Give up the oldest text until about `to_bytes` are left."""
        self._machine.trim(to_bytes)
        self._account()

    def drop(self) -> None:
        """Release everything."""
        self._grew(-self.size)
        self.size = 0

    # -- a client comes, or has fallen behind --

    def start(self, cursor: Cursor | None, *, came_back: bool) -> Start:
        """Where the frames begin of a client; `cursor` was made by this channel, None where there is none."""
        if cursor is not None and cursor.place is not None and cursor.place <= self._backlog.last:
            if cursor.received is None:
                return Start(cursor.place)
            piece = self._piece(cursor.since, cursor.place)
            if piece is not None and cursor.received <= len(piece):
                rest = self._framed(piece, cursor.place, cursor.since, skip=cursor.received)
                return Start(cursor.place, None, rest)
        if came_back and self._wire.framed:  # a client of plain text has no cursors
            return self._again()
        return Start(self._backlog.last, None, self._join(), tuple(self._machine.headers()))

    def _join(self) -> bytes:
        """The message so far; one object for all that join at this place."""
        place = self._backlog.last
        if self._joined is None or self._joined[0] != place:
            self._joined = (place, self._framed(message_at(self._machine, place) or [], place, 0))
        return self._joined[1]

    def _again(self) -> Start:
        """The message so far, for a client whose cursor is unknown: it may hold another copy of it."""
        cause, place = GapCause.UNKNOWN_CURSOR, self._backlog.last
        self._counts.gaps[cause.value] += 1
        piece, begun = message_at(self._machine, place) or [], len(self._machine.begin())
        notices = [
            self._wire.frame(block, self._ids.within(place, begun, 0))
            for block in self._machine.again(cause.value)
        ]
        opening = self._framed(piece[:begun], place, 0, of=len(piece))
        return Start(place, None, opening + b"".join(notices) + self._framed(piece, place, 0, skip=begun))

    def catch_up(self, place: int) -> bytes:
        """What brings a client at `place` to the newest frame."""
        last = self._backlog.last
        return self._framed(self._piece(place, last) or [], last, place)

    def _piece(self, since: int, place: int) -> list[bytes] | None:
        return self._machine.log.between(since, place) if since else message_at(self._machine, place)

    def _framed(
        self, blocks: Sequence[bytes], place: int, since: int, *, skip: int = 0, of: int | None = None
    ) -> bytes:
        """The blocks of a piece as frames, without the first `skip`; `of`: how many blocks the piece has."""
        total = len(blocks) if of is None else of
        ended = self._backlog.sealed and place == self._backlog.last
        bodies: list[bytes] = []
        for number, block in enumerate(blocks[skip:], skip + 1):
            whole = self._ids.end if ended else self._ids.at(place)
            cursor = whole if number == total else self._ids.within(place, number, since)
            bodies.append(self._wire.frame(block, cursor) if block else b"")
        return b"".join(bodies)
