"""Where a gap for evicted chunks stands: after the start of the step and the attempt, before its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import orjson

from proxy.core.events import Event, Item, LogItem, Reset, StepGap
from proxy.streams.backlog import Backlog
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.retained import EarlierItems, RetainedItem, retain
from tests.support.waiting import until
from tests.unit.streams.test_dispatcher import RUN, BufferSink, chunk, completed, dispatcher, join


def started(step: str) -> Event:
    return Event("step_started", RUN, step, "id-" + step, None, 1)


RETRIED: list[Item] = [
    started("draft"),
    started("other"),
    *(chunk(f"void {number}", number) for number in range(4)),
    chunk("o", 0, "other"),
    Event("step_retrying", RUN, "draft", "id-draft", None, 1),
    Reset("draft", 2),
    *(chunk(str(number), number, attempt=2) for number in range(4)),
    completed("other"),
    completed("draft"),
]
TOLD = [
    "step_started draft",
    "step_started other",
    "gap draft 1",
    "gap other 1",
    "step_retrying draft",
    "reset draft 2",
    "gap draft 2",
    "step_completed other",
    "step_completed draft",
]


def told(data: Sequence[str]) -> list[str]:
    """What frames say, in short; without chunks."""
    found = []
    for text in map(orjson.loads, data):
        if isinstance(text, list):
            found.append(f"{text[0]} {text[1]}")
        else:
            found.append(f"{'gap' if 'cause' in text else 'reset'} {text['step']} {text['attempt']}")
    return [line for line in found if not line.startswith("step_stream")]


def evicting() -> Dispatcher:
    """A channel that has evicted all of these, and keeps the lifecycle frames aside."""
    one = dispatcher(events=16)
    one.publish([*RETRIED, *(chunk("last", number, "third") for number in range(10))])
    return one


async def test_a_gap_stands_where_the_last_of_its_chunks_was() -> None:
    _, sink = join(evicting())
    assert told(sink.data) == TOLD


async def test_wherever_the_connection_breaks_each_gap_is_announced_once() -> None:
    one = evicting()
    _, whole = join(one)
    for received, place in enumerate(whole.ids, 1):
        if received < len(whole.ids) and whole.ids[received] == place:
            continue  # the next frame is a gap, which repeats the cursor
        _, rest = join(one, place)
        gaps = Counter(line for line in told(whole.data[:received] + rest.data) if line.startswith("gap"))
        gaps_last = [line.startswith("gap") for line in told(whole.data[:received])]
        if gaps_last[-1:] != [True]:  # nobody knows whether a gap that came last has arrived
            assert gaps == {"gap draft 1": 1, "gap other 1": 1, "gap draft 2": 1}


async def test_what_was_forgotten_comes_in_its_place_too() -> None:
    async def rebuild() -> list[Event]:
        return [item for item in RETRIED if isinstance(item, Event) and item.type != "step_stream"]

    one = dispatcher(events=4, rebuild=rebuild)
    one.publish([*RETRIED, chunk("last", 0, "third")])
    sink = BufferSink()
    join(one, sink=sink)
    async with asyncio.timeout(10):
        await until(lambda: '"last"' in sink.written.decode())
    assert told(sink.data) == TOLD


def test_a_stream_that_is_opened_late_gets_the_gaps_in_their_places() -> None:
    backlog = Backlog[RetainedItem](9, 1 << 20)
    for one in RETRIED:
        backlog.append(retain(one))
    rebuilt = [one for one in RETRIED if isinstance(one, Event) and one.type != "step_stream"]
    so_far: list[LogItem] = list(EarlierItems(backlog).so_far(rebuilt))
    in_log: list[LogItem] = [item for _, item in EarlierItems(backlog).at_positions(rebuilt)]
    for items in (so_far, in_log):
        lines = []
        for item in items:
            if isinstance(item, Event):
                lines.append(f"{item.type} {item.step}")
            elif isinstance(item, Reset | StepGap):
                lines.append(f"{'gap' if isinstance(item, StepGap) else 'reset'} {item.step} {item.attempt}")
        kept = [line for line in lines if not line.startswith("step_stream")]
        assert kept == [line for line in TOLD if line in kept]
        assert {line for line in TOLD if not line.startswith("gap")} <= set(kept)
        assert "gap draft 1" in kept
