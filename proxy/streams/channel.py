"""Channel: one stream on one run: rules in front, a backlog behind, and the readers of that backlog.

Items come in (``offer``), rules make messages, messages become numbered frames once, and the readers are
driven from here: one turn of the loop collects what came, then each reader that stands at the tail is handed
the same bytes. No task is woken per client and event. Some readers are served in a turn (`HANDS`), the others
in the next ones, so that a run with very many holds up no other run; what comes meanwhile is merged into what
they get. Where more comes than the backlog holds, all are handed it before the turn ends: who keeps up loses
nothing, however large a frame is.

The law of the fast path: a reader that stands where the others stand and is not paused gets the shared
bytes; every other reader goes the slow way (`Reader.pump`), which tells him what he missed. A reader may
pause, close or join while the channel walks; each is looked at by its own place, so none can skip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from proxy.core.events import STEP_STREAM, End, Event, GapCause, Item, Reset, StepGap
from proxy.formats import sse
from proxy.formats.chunked import chunk
from proxy.formats.sse import HEARTBEAT
from proxy.log.cursor import Ids
from proxy.observability.counters import StreamCounters
from proxy.rules.ruleset import Rules, Sight
from proxy.streams.backlog import Backlog, Frame

if TYPE_CHECKING:
    from proxy.streams.subscriber import Reader

BATCH: Final = 64 * 1024  # bytes a reader is handed at once, a frame at least: his share of memory, about
HANDS: Final = 250  # readers written to in a turn of the loop, some milliseconds: then others have a turn


class Sights:
    """What rules have seen of an event, so that several streams decode it once."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[int, Sight] = {}

    def of(self, event: Event) -> Sight:
        """The sight of `event`, which must stay alive as long as this."""
        sight = self._seen.get(id(event))
        if sight is None:
            sight = self._seen[id(event)] = Sight(event)
        return sight


class Round:
    """What is on its way to the readers, a part of them in each turn of the loop."""

    __slots__ = ("bytes", "came", "frames", "place", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Reader] = []  # whom it has not come to yet
        self.place = 0  # where they stand, unless they joined since or do not keep up
        self.came = 0.0  # when its oldest frame came
        self.frames = 0  # of it, which those who wait may lack
        self.bytes = 0


class Channel:
    """One stream's view of one run."""

    def __init__(
        self,
        rules: Rules,
        ids: Ids,
        backlog: Backlog[Frame],
        counts: StreamCounters,
        *,
        heartbeat: float,
        restate: Callable[[], Any],
    ) -> None:
        self.rules = rules
        self.ids = ids
        self.backlog = backlog
        self.counts = counts
        self.heartbeat = heartbeat
        self.restate = restate  # async: the lifecycle events of the run, from its state
        self.readers: set[Reader] = set()
        self.status: str | None = None  # of the verified end, once it is told
        self._loop = asyncio.get_running_loop()
        self._flushing = False
        self._shared: tuple[int, int, bytes, int] | None = None  # (from, last, bytes, to)
        self._came = 0.0  # when the oldest frame that is not flushed yet came
        self._round = Round()
        self._flushed = 0  # number of the last frame of the last round, over or under way
        self._unflushed = 0  # bytes that came since
        self._beat: asyncio.TimerHandle | None = None
        self._spoke = self._loop.time()

    # -- in --

    def offer(self, items: Iterable[Item], sights: Sights | None = None) -> None:
        """Take what happened in the run, in order; `sights` are shared with the run's other channels."""
        before = self.backlog.last
        for item in items:
            self._take(item, sights)
        if self.backlog.last != before and self.readers and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _take(self, item: Item, sights: Sights | None) -> None:
        if isinstance(item, Event):
            frame = self._frame(item, self.backlog.last + 1, None if sights is None else sights.of(item))
            if frame is not None:
                self._append(frame)
        elif isinstance(item, End):
            self.status = item.status
            body = sse.control("end", {"status": item.status}, cursor=self.ids.end)
            self._append(Frame(body, True))
            self.backlog.seal()
        elif item.step is None or self.rules.forwards_chunks(item.step):
            self._take_notice(item)

    def _append(self, frame: Frame) -> None:
        """Number a frame; what came before it in this turn is handed out before it could fall out.

        Half of the bounds is what the frames that lasting ones push aside leave to others, at the least.
        """
        backlog, size, under_way = self.backlog, frame.size, self._round
        fresh = backlog.last - self._flushed
        lacking = fresh + under_way.frames
        if lacking and (
            self._unflushed + under_way.bytes + size > backlog.max_bytes // 2
            or lacking >= backlog.max_events // 2
        ):
            while self._hand_out():
                pass
            fresh = 0
        if not fresh:
            self._came = monotonic()
        backlog.append(frame)
        self._unflushed += size

    def _take_notice(self, item: StepGap | Reset) -> None:
        if isinstance(item, Reset):
            self.counts.resets += 1
        self._append(self._notice(item, self.backlog.last + 1))

    def _notice(self, item: StepGap | Reset, number: int) -> Frame:
        if isinstance(item, Reset):
            data = {"step": item.step, "attempt": item.attempt}
            return Frame(sse.control("reset", data, cursor=self.ids.at(number)), True, None, item)
        return Frame(self.gap(item, number - 1), True, None, item)

    def _frame(self, event: Event, number: int, sight: Sight | None = None) -> Frame | None:
        message = self.rules.message(event, sight)
        if message is None:
            return None
        self.counts.forwarded[message.rule] += 1
        body = self.ids.frame(number, message.event, message.data)
        if event.type == STEP_STREAM:
            return Frame(body, False, (event.step or "", event.attempt or 1))
        return Frame(body, True, None, event.identity)

    def gap(self, gap: StepGap, place: int) -> bytes:
        """The bytes that tell a reader at `place` what he cannot have."""
        self.counts.gaps[gap.cause.value] += 1
        return sse.control(
            "gap",
            {"cause": gap.cause.value, "step": gap.step, "attempt": gap.attempt, "missed": gap.missed},
            cursor=self.ids.at(place),
        )

    # -- out --

    def _flush(self) -> None:
        """Hand out what came, in this turn of the loop and the next ones."""
        self._flushing = self._hand_out()
        if self._flushing:
            self._loop.call_soon(self._flush)

    def _hand_out(self) -> bool:
        """Hand some readers what is there; whether others wait, or something came since."""
        last, under_way = self.backlog.last, self._round
        if not under_way.waiting:
            if last == self._flushed:
                return False
            under_way.waiting = list(self.readers)
            under_way.place, under_way.came = self._flushed, self._came
            under_way.frames, under_way.bytes = last - self._flushed, self._unflushed
            self._flushed, self._unflushed = last, 0
        readers = under_way.waiting[-HANDS:]
        del under_way.waiting[-HANDS:]
        self._hand(readers, under_way.place)
        self._spoke = self._loop.time()
        # not the loop's time: uvloop's stands still within a turn, where all of this happens
        self.counts.latency.observe(monotonic() - under_way.came, len(readers))
        if under_way.waiting:
            return True
        under_way.frames = under_way.bytes = 0
        return last != self._flushed

    def _hand(self, readers: list[Reader], place: int) -> None:
        """Hand `readers` what came; to those at `place`, where nearly all are, the very same bytes."""
        backlog, taken, body, shared = self.backlog, 0, b"", b""
        if backlog.reaches(place) and place != backlog.last and not backlog.sealed:
            body, to = self.batch(place)
            shared = chunk(body) if to == backlog.last else b""
        frames = backlog.last - place
        for reader in readers:
            if reader.paused or reader.busy or reader.ending:
                continue
            if shared and reader.place == place:
                reader.take(frames, body, shared)
                taken += 1
            else:
                reader.pump()
        self.counts.frames += taken * frames
        self.counts.bytes += taken * len(body)

    def batch(self, place: int) -> tuple[bytes, int]:
        """What a reader at `place` is handed next and where he stands then; shared between readers."""
        last = self.backlog.last
        shared = self._shared
        if shared is not None and shared[0] == place and shared[1] == last:
            return shared[2], shared[3]
        bodies: list[bytes] = []
        total, to = 0, place
        for frame in self.backlog.read(place):
            if bodies and total + len(frame.body) > BATCH:
                break
            bodies.append(frame.body)
            total += len(frame.body)
            to += 1
        body = bodies[0] if len(bodies) == 1 else b"".join(bodies)
        self._shared = (place, last, body, to)
        return body, to

    def missed(self, place: int, cause: GapCause) -> list[bytes]:
        """The frames that tell a reader at `place` which chunks are gone."""
        return [
            self.gap(StepGap(cause, loss.step, loss.attempt, loss.missed), place)
            for loss in self.backlog.losses(place)
        ]

    async def recover(self, place: int) -> tuple[list[tuple[int, Frame]], bool]:
        """Lasting frames after `place` that fell out: those aside, and the forgotten ones made again.

        And whether all of them could be made: while a run goes on, its state may not tell everything.
        """
        frames = self.backlog.aside(place)
        forgotten = self.backlog.forgotten(place)
        for item in [item for item in forgotten if isinstance(item, StepGap | Reset)]:
            number = forgotten.pop(item)
            frames.append((number, self._notice(item, number)))
        if forgotten:
            for event in await self.restate():
                place_of = forgotten.pop(event.identity, None)
                frame = None if place_of is None else self._frame(event, place_of)
                if place_of is not None and frame is not None:
                    frames.append((place_of, frame))
        frames.sort(key=_number)
        return frames, not forgotten

    # -- readers --

    def join(self, reader: Reader) -> None:
        """A reader begins here."""
        self.readers.add(reader)
        if self._beat is None:
            self._spoke = self._loop.time()
            self._beat = self._loop.call_later(self.heartbeat, self._pulse)

    def leave(self, reader: Reader) -> None:
        """A reader is gone."""
        self.readers.discard(reader)

    def _pulse(self) -> None:
        if not self.readers:
            self._beat = None
            return
        now = self._loop.time()
        due = self._spoke + self.heartbeat
        if now + 0.01 >= due:
            self._spoke = now
            self._beat_on(list(self.readers))
        else:
            self._beat = self._loop.call_at(due, self._pulse)

    def _beat_on(self, waiting: list[Reader]) -> None:
        """Some heartbeats; the rest in the next turns, so that a round for thousands holds up nobody."""
        for reader in waiting[-HANDS:]:
            reader.beat(HEARTBEAT)
        del waiting[-HANDS:]
        if waiting:
            self._beat = self._loop.call_later(0, self._beat_on, waiting)
        else:
            self._beat = self._loop.call_at(self._spoke + self.heartbeat, self._pulse)

    def close(self) -> None:
        """The run is dropped: no reader is left, nothing will come."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        self.backlog.drop()


def value_of(metadata: Mapping[str, Any], key: str | None) -> str:
    """What stands in a metadata path for a run with `metadata`; empty for other paths."""
    return "" if key is None else str(metadata.get(key, ""))


def _number(numbered: tuple[int, Frame]) -> int:
    return numbered[0]
