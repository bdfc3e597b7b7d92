"""Channel: one stream's frames for one run. It applies the rules and keeps the frames in a backlog.

Items of the run go in, numbered frames come out. Each frame is made once, however many clients there are. A
channel has no clients and no schedule: a `Dispatcher` decides which clients are written to in which turn of
the loop, and a `Subscriber` keeps a client's place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from proxy.core.events import STEP_STREAM, End, Event, Flush, GapCause, Item, LogItem, Reset, StepGap
from proxy.formats import sse
from proxy.formats.machine import Machine
from proxy.formats.wire import NAMED, Wire
from proxy.log.cursor import Cursor
from proxy.log.frames import Frames
from proxy.observability.counters import StreamCounters
from proxy.rules.merging import Merging, Ready
from proxy.rules.rule import Message
from proxy.rules.ruleset import DecodedEvent, Rules
from proxy.rules.whole import Repair, WholeTexts
from proxy.streams.backlog import Backlog, Frame, Loss
from proxy.streams.message_writer import MessageWriter, Start
from proxy.streams.notices import Notices
from proxy.streams.refused_work import RefusedWork

BATCH: Final = 64 * 1024
"""Bytes that are written to a client at once (one frame at least): roughly its share of user memory."""


class DecodedEvents:
    """The decoded form of each event of one publication, shared by the channels of a run."""

    __slots__ = ("_decoded",)

    def __init__(self) -> None:
        self._decoded: dict[int, DecodedEvent] = {}

    def of(self, event: Event) -> DecodedEvent:
        """The decoded form of `event`, which must stay alive as long as this object."""
        decoded = self._decoded.get(id(event))
        if decoded is None:
            decoded = self._decoded[id(event)] = DecodedEvent(event)
        return decoded

    @classmethod
    def only(cls, decoded: DecodedEvent) -> DecodedEvents:
        """The decoded form of one event, where the caller has it."""
        forms = cls()
        forms._decoded[id(decoded.event)] = decoded
        return forms


class Channel:
    """The frames of one stream on one run."""

    def __init__(
        self,
        rules: Rules,
        ids: Frames,
        backlog: Backlog[Frame],
        counts: StreamCounters,
        *,
        rebuild: Callable[[], Coroutine[Any, Any, list[Event]]],
        unforeseen: Callable[[Exception], None] | None = None,
        wire: Wire = NAMED,
        machine: Machine | None = None,
        grew: Callable[[int], None] | None = None,
        merged: bool = False,
    ) -> None:
        """`rebuild` reads the run's lifecycle events from its current state; it may raise HatchetError.

        `unforeseen` is called with exceptions that should not be possible; None: they are ignored. `machine`
        writes the stream's format; None for ``sse``, whose frames are made here. `grew` is called with every
        change of the bytes that the machine holds. `merged`: the items are those of several runs.
        """
        self.rules = rules
        self.wire: Final = wire
        self.ids = ids
        self.backlog = backlog
        self.counts = counts
        self.unforeseen: Final = unforeseen or _ignore
        self.notices: Final = Notices()
        self._rebuild = rebuild
        self._merged = merged
        self._merging = Merging(rules, merged=merged) if rules.merges else None
        self.merges: Final = self._merging is not None
        """Whether chunks may wait to become one frame: then `ready` says what is sent when."""
        self._whole_after: int | None = 0  # the frames after it are those of every replica; None: not yet
        self._unflushed: list[int] = []  # until chunks that began to wait before the first item are sent
        self._texts = WholeTexts(rules, merged=merged) if rules.repairs_texts else None
        self._refused = RefusedWork(rules, merged=merged)
        self._batch: tuple[int, int, bytes, int] | None = None  # (from, newest, bytes, to) of the last batch
        self._writer: MessageWriter | None = None
        if machine is not None:
            self._writer = MessageWriter(
                machine,
                backlog,
                wire=wire,
                rules=rules,
                ids=ids,
                counts=counts,
                notices=self.notices,
                grew=grew or _uncounted,
                unforeseen=self.unforeseen,
                merged=merged,
            )

    # -- items in --

    @property
    def due(self) -> float | None:
        """When `flushed` must be called, on the clock that `ready` is given; None where nothing waits."""
        return None if self._merging is None else self._merging.due

    def overdue(self, now: float) -> set[int]:
        """The `merge` of each rule whose chunks wait longer than that, in milliseconds."""
        return set() if self._merging is None else self._merging.overdue(now)

    def begin_late(self) -> None:
        """The first items of the run are not kept: chunks that were merged with them are not known here."""
        self._unflushed = list(self.rules.merge_times)
        self._whole_after = None if self._unflushed else 0

    def ready(self, item: LogItem, decoded: DecodedEvents | None, now: float) -> list[Ready]:
        """What is sent now that `item` has come, in order; `now` is in seconds."""
        if self._merging is None:
            return [] if isinstance(item, Flush) else [Ready(item)]
        if self._whole_after is None:
            self._note_flush(item)
        try:
            shared = decoded.of(item) if decoded is not None and isinstance(item, Event) else None
            return self._merging.take(item, shared, now)
        except Exception as error:
            self.unforeseen(error)
            return [Ready(item)] if isinstance(item, End) else []

    def _note_flush(self, item: LogItem) -> None:
        if not self._unflushed:
            self._whole_after = self.backlog.last
        elif isinstance(item, Flush) and item.milliseconds in self._unflushed:
            self._unflushed.remove(item.milliseconds)

    def flushed(self, now: float) -> list[Ready]:
        """What has waited long enough."""
        return [] if self._merging is None else self._merging.flush(now)

    def frames(self, item: LogItem, decoded: DecodedEvents | None = None) -> tuple[Frame, ...]:
        """The frames that `item` becomes, numbered on from the backlog's last one.

        Append them all before the next item is converted: their numbers are part of their bytes. An exception
        that should not be possible costs the frames of `item` alone; the run's end is sent in any case.
        """
        if self._writer is not None:
            if isinstance(item, Flush):
                return ()
            shared = decoded.of(item) if decoded is not None and isinstance(item, Event) else None
            return self._writer.frames(item, shared)
        number = self.backlog.last + 1
        try:
            if self._texts is None and isinstance(item, Event):  # nearly every item
                message = self.rules.message(item, None if decoded is None else decoded.of(item))
                if message is None:
                    return self._unsent(item, number)
                return (self._message(item, message, number),)
            if isinstance(item, Flush):
                return ()  # here nothing waits
            if self._texts is None:
                return self._frames(item, number, decoded)
            return self._repaired(item, number, decoded, self._texts)
        except Exception as error:
            self.unforeseen(error)
            return self._frames(item, number, None) if isinstance(item, End) else ()

    def _repaired(
        self, item: Item, number: int, decoded: DecodedEvents | None, texts: WholeTexts
    ) -> tuple[Frame, ...]:
        """The frames of `item`, and before them what repairs a text that it completes."""
        frames: list[Frame] = []
        for outcome in texts.before(item):
            if isinstance(outcome, Repair):
                frames.append(self._message(outcome.event, outcome.message, number + len(frames)))
            else:
                frames += self._frames(outcome, number + len(frames), None)
        if not (isinstance(item, StepGap) and texts.hold(item)):
            frames += self._frames(item, number + len(frames), decoded)
        return tuple(frames)

    def _frames(self, item: Item, number: int, decoded: DecodedEvents | None) -> tuple[Frame, ...]:
        """The frames of `item` itself: one, or none where the rules do not forward it."""
        if isinstance(item, Event):
            frame = self._event(item, number, None if decoded is None else decoded.of(item))
            return self._unsent(item, number) if frame is None else (frame,)
        if isinstance(item, End):
            return (Frame(self._end(item), True),)
        if item.step is not None and not self.rules.forwards_chunks(item.step, item.workflow):
            return ()  # the stream forwards no chunks of the step, so none is missing
        if isinstance(item, Reset):
            self.counts.resets += 1
        if not self.wire.controls:
            return ()
        self.notices.note(number, item)
        return (self._notice(item, number),)

    def _unsent(self, event: Event, number: int) -> tuple[Frame, ...]:
        """The frames for an event that became no message: a gap, if the rules were refused the work."""
        gap = self._refused.unannounced(event)
        if gap is None or (self._texts is not None and self._texts.hold(gap)):
            return ()
        return self._frames(gap, number, None)

    def _end(self, item: End) -> bytes:
        if self.wire.controls:
            return sse.control("end", {"status": item.status}, cursor=self.ids.end)
        return b"id: %b\n\n" % self.ids.end  # no event: the client only gets the cursor

    def _event(self, event: Event, number: int, decoded: DecodedEvent | None = None) -> Frame | None:
        message = self.rules.message(event, decoded)
        if message is None:
            return None
        if self._texts is not None:
            self._texts.record(event, message)
        return self._message(event, message, number)

    def _message(self, event: Event, message: Message, number: int) -> Frame:
        self.counts.forwarded[message.rule] += 1
        self._refused.forwarded(event)
        body = self.ids.frame(number, message.event, message.data)
        if event.type == STEP_STREAM:
            source = (event.step or "", event.attempt or 1, event.run_id if self._merged else None)
            if event.first_index is None or event.index is None:
                return Frame(body, False, source)
            return Frame(body, False, source, None, event.index - event.first_index + 1)
        return Frame(body, True, None, event.identity)

    def _notice(self, item: StepGap | Reset, number: int) -> Frame:
        if isinstance(item, Reset):
            return Frame(sse.control("reset", item.data, cursor=self.ids.at(number)), True, None, item)
        return Frame(self.gap(item, number - 1), True, None, item)

    # -- memory --

    @property
    def held(self) -> int:
        """Bytes that it holds."""
        return self.backlog.bytes + (0 if self._writer is None else self._writer.size)

    def shrink(self, to_bytes: int) -> None:
        """Evict the oldest frames, and give up the oldest text, until about `to_bytes` are left."""
        if self._writer is None:
            self.backlog.shrink(to_bytes)
        else:
            self.backlog.shrink(to_bytes // 2)
            self._writer.trim(to_bytes // 2)

    def drop(self) -> None:
        """Release everything."""
        self.backlog.drop()
        if self._writer is not None:
            self._writer.drop()

    # -- a client comes, or has fallen behind --

    def start(self, cursor: Cursor | None, *, came_back: bool) -> Start:
        """Where a client's frames begin; `came_back`: it sent a cursor, which may be unreadable."""
        known = None if cursor is None else self.ids.locate(cursor)
        if known is not None and not self._is_whole_after(known.place or 0):
            known = None
        if self._writer is not None:
            return self._writer.start(known, came_back=came_back)
        place = None if known is None else known.place
        if place is not None and place <= self.backlog.last:
            return Start(place)
        return Start(0, GapCause.UNKNOWN_CURSOR if came_back else None)

    def _is_whole_after(self, place: int) -> bool:
        """Whether no chunk that came before `place` may be missing in the frames after it."""
        return self._whole_after is not None and (place >= self._whole_after or place == 0)

    def catch_up(self, place: int) -> bytes | None:
        """What brings a client at `place` to the newest frame without those that were evicted.

        None where that is not possible: then see `missed` and `recover`.
        """
        return None if self._writer is None else self._writer.catch_up(place)

    # -- bytes out --

    def batch(self, place: int) -> tuple[bytes, int]:
        """The next bytes for a client at `place`, and its place after them; one object for all at `place`."""
        last = self.backlog.last
        cached = self._batch
        if cached is not None and cached[0] == place and cached[1] == last:
            return cached[2], cached[3]
        bodies: list[bytes] = []
        total, to = 0, place
        for frame in self.backlog.read(place):
            if bodies and total + len(frame.body) > BATCH:
                break
            bodies.append(frame.body)
            total += len(frame.body)
            to += 1
        body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
        self._batch = (place, last, body, to)
        return body, to

    def gap(self, gap: StepGap, place: int) -> bytes:
        """The bytes of a ``stream.gap`` for a client at `place`; it repeats the cursor of that place.

        Empty where the stream has no control frames.
        """
        self.counts.gaps[gap.cause.value] += 1
        return self.wire.gap(gap.data, self.ids.at(place))

    def skipped(
        self, place: int, lasting: Iterable[tuple[int, Frame]], losses: Iterable[Loss], cause: GapCause
    ) -> list[bytes]:
        """What a client at `place` gets for evicted frames: `lasting` ones, and a gap for each of `losses`.

        A gap stands where the last of its chunks was: after the start of the step and of the attempt, before
        the step's end. So a client whose connection breaks in between is told of each gap once.
        """
        found: list[bytes] = []
        waiting = deque(losses)
        for number, frame in lasting:
            while waiting and waiting[0].until < number:
                found.append(self._loss(waiting.popleft(), place, cause))
            found.append(frame.body)
            place = number
        return found + [self._loss(loss, place, cause) for loss in waiting]

    def _loss(self, loss: Loss, place: int, cause: GapCause) -> bytes:
        return self.gap(StepGap(cause, loss.step, loss.attempt, loss.missed, run_id=loss.run_id), place)

    async def recover(self, place: int) -> tuple[list[tuple[int, Frame]], bool]:
        """The lasting frames after `place` that were evicted, with their numbers, and whether all are there.

        Those that the backlog has forgotten are made again from the run's state, which may be incomplete
        while the run goes on. Raises HatchetError.
        """
        frames = self.backlog.aside(place)
        forgotten = self.backlog.forgotten(place)
        for item in [item for item in forgotten if isinstance(item, StepGap | Reset)]:
            number = forgotten.pop(item)
            frames.append((number, self._notice(item, number)))
        if forgotten:
            for event in await self._rebuild():
                number_of = forgotten.pop(event.identity, None)
                if number_of is None:
                    continue
                frame = self._event(event, number_of)
                if frame is None and (gap := self._refused.gap(event)) is not None and self.wire.controls:
                    frame = self._notice(gap, number_of)
                if frame is not None:
                    frames.append((number_of, frame))
        frames.sort(key=_number)
        return frames, not forgotten


def value_of(metadata: Mapping[str, Any], key: str | None) -> str:
    """What a metadata path holds for a run with `metadata`; empty for other paths (`key` is None)."""
    return "" if key is None else str(metadata.get(key, ""))


def _number(numbered: tuple[int, Frame]) -> int:
    return numbered[0]


def _ignore(error: Exception) -> None:
    """Do nothing."""


def _uncounted(delta: int) -> None:
    """No one counts the bytes."""
