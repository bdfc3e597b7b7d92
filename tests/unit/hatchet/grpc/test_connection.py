"""A link takes what comes in portions: one team's burst does not hold up the others on the loop."""

from __future__ import annotations

import asyncio
import itertools

from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.connection import FULL_READ, SLICE, Link
from proxy.hatchet.grpc.read_scheduler import AHEAD, BREATH, THICK, TURN, Turns

EVENT = frames.frame(frames.DATA, 0, 1, b"an event")
PING = frames.frame(frames.PING, 0, 0, b"are you?")


class Paper(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    @property
    def answered(self) -> int:
        return self.written.count(b"are you?")


def slow() -> Turns:
    """Turns in which each slice takes all the time of one."""
    return Turns(clock=itertools.count(0.0, TURN).__next__)


def linked(turns: Turns | None = None) -> tuple[Link, Paper]:
    link, paper = Link(1 << 20, lambda link: None, turns=turns or slow()), Paper()
    link.connection_made(paper)
    link.data_received(frames.frame(frames.SETTINGS, 0, 0, b""))
    return link, paper


async def reads_on(paper: Paper) -> None:
    while not paper.reading:
        await asyncio.sleep(BREATH / 5)


async def test_a_burst_is_taken_a_slice_a_turn_and_nothing_is_read_meanwhile() -> None:
    link, paper = linked()
    count = 4 * SLICE // len(PING)
    link.data_received(PING * count)
    assert paper.answered == SLICE // len(PING)
    assert not paper.reading
    turns = 0
    while paper.answered < count:
        turns += 1
        await asyncio.sleep(0)
    assert turns == 3
    assert paper.reading
    link.connection_lost(None)


async def test_slices_that_are_soon_done_need_no_turn_each() -> None:
    link, paper = linked(Turns(clock=lambda: 0.0))
    link.data_received(PING * SLICE)
    assert paper.answered == SLICE
    link.connection_lost(None)


async def test_where_events_come_thick_the_next_read_waits_for_a_breath() -> None:
    link, paper = linked()
    for data in (EVENT * AHEAD, EVENT * (2 * SLICE // len(EVENT))):  # also one that takes turns
        link.data_received(data)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not paper.reading
        await reads_on(paper)
    await asyncio.sleep(2 * AHEAD / THICK)
    link.data_received(EVENT * (AHEAD - 1))
    assert paper.reading
    link.connection_lost(None)


async def test_links_of_a_team_are_counted_together_and_read_on_together() -> None:
    turns = slow()
    links = [linked(turns) for _ in range(10 * AHEAD)]
    for link, _ in links:
        link.data_received(EVENT)
    (_, first), (_, last) = links[0], links[-1]
    assert first.reading
    assert not last.reading
    await reads_on(last)
    assert all(paper.reading for _, paper in links)
    for link, _ in links:
        link.connection_lost(None)


async def test_a_large_read_waits_for_nothing() -> None:
    link, paper = linked(Turns(clock=lambda: 0.0))
    link.data_received(EVENT * FULL_READ)
    assert paper.reading
    link.connection_lost(None)


async def test_a_connection_that_breaks_in_the_middle_of_a_burst_is_over() -> None:
    link, paper = linked()
    link.data_received(PING * SLICE)
    link.connection_lost(None)
    answered = paper.answered
    for _ in range(5):
        await asyncio.sleep(0)
    assert link.gone.done()
    assert paper.answered == answered, "nobody is answered any more"


async def test_links_of_one_team_share_its_turn() -> None:
    turns = slow()
    (one, paper), (other, other_paper) = linked(turns), linked(turns)
    count, slice_ = 3 * SLICE // len(PING), SLICE // len(PING)
    one.data_received(PING * count)
    other.data_received(PING * count)
    seen = [(paper.answered, other_paper.answered)]
    while paper.answered + other_paper.answered < 2 * count:
        await asyncio.sleep(0)
        seen.append((paper.answered, other_paper.answered))
    taken = [sum(after) - sum(before) for before, after in itertools.pairwise(seen)]
    assert max(taken) <= slice_ + 1  # a slice may end within a frame
    assert all(abs(a - b) <= 2 * (slice_ + 1) for a, b in seen)
    assert paper.reading
    assert other_paper.reading
    for link in (one, other):
        link.connection_lost(None)


async def test_a_lone_team_waits_for_nobody() -> None:
    quiet, paper = linked()
    loud, _ = linked()
    loud.data_received(PING * (4 * SLICE // len(PING)))
    quiet.data_received(PING)
    assert paper.answered == 1
    quiet.connection_lost(None)
    loud.connection_lost(None)
