"""Replicas report to each other what they do; what is no report is not shown."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from proxy.log.memory import MemoryLog, MemoryStore
from proxy.replicas.roll_call import Report, RollCall

pytestmark = pytest.mark.timeout(20)


def report(name: str, started: float = 1.0) -> Report:
    return Report(name, f"host of {name}", started, 2, 3, 0, (f"t:log:{name}",), 1, 5.0, 0.005, 0.01)


def replica(store: MemoryStore, name: str, started: float = 1.0) -> tuple[MemoryLog, RollCall]:
    log = MemoryLog(store, name, asyncio.get_running_loop().call_soon)
    call = RollCall(log, lambda: report(name, started))
    log.announcements = call  # type: ignore[assignment]
    return log, call


async def test_every_replica_that_hears_the_question_reports_the_oldest_first() -> None:
    store = MemoryStore()
    _, one = replica(store, "a", 3.0)
    replica(store, "b", 2.0)
    replica(store, "c", 1.0)
    roll = await one.ask()
    assert roll.reports == (report("a", 3.0), report("c", 1.0), report("b", 2.0))
    assert roll.silent == 0


async def test_a_replica_that_does_not_answer_is_counted() -> None:
    store = MemoryStore()
    _, one = replica(store, "a")
    other, _ = replica(store, "b")
    other.announcements = None
    roll = await one.ask()
    assert ([each.replica for each in roll.reports], roll.silent) == (["a"], 1)


async def test_without_the_log_a_replica_knows_only_itself() -> None:
    store = MemoryStore()
    log, one = replica(store, "a")
    log.cut()
    roll = await one.ask()
    assert ([each.replica for each in roll.reports], roll.silent) == (["a"], None)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"host": "h"}', "x" * 100_000])
async def test_what_is_no_report_is_left_out(text: str) -> None:
    store = MemoryStore()
    _, one = replica(store, "a")
    other, _ = replica(store, "b")

    class MalformedReporter:
        def announced(self, replica: str, words: list[str]) -> None:
            other.announce(["here", words[1], text])

    other.announcements = MalformedReporter()  # type: ignore[assignment]
    assert [each.replica for each in (await one.ask()).reports] == ["a"]


async def test_a_report_has_the_name_of_who_sent_it_and_plain_values() -> None:
    store = MemoryStore()
    _, one = replica(store, "a")
    other, _ = replica(store, "b")
    plain = json.loads(json.dumps({each: getattr(report("b"), each) for each in Report.__slots__}))

    class OversizedReporter:
        def announced(self, replica: str, words: list[str]) -> None:
            report_sent = {**plain, "replica": "somebody else", "host": ["h"], "leads": ["t:log:r"] * 1000}
            other.announce(["here", words[1], json.dumps(report_sent)])

    other.announcements = OversizedReporter()  # type: ignore[assignment]
    roll = await one.ask()
    assert roll.reports[1] == replace(report("b"), host="['h']", leads=("t:log:r",) * 100)


async def test_other_words_and_late_answers_are_not_for_the_roll_call() -> None:
    _, one = replica(MemoryStore(), "a")
    assert not one.announced("b", ["leaving", "x"])
    assert not one.announced("b", [])
    assert one.announced("b", ["here", "a.99", "{}"])
