"""Each quirk, on and off, on manual time."""

from __future__ import annotations

import dataclasses

import pytest

from proxy.hatchet.protobuf import dispatcher_pb2, workflows_pb2
from proxy.simulator.quirks import NONE, Quirks, attribute, facts
from proxy.simulator.script.loader import load_script
from proxy.simulator.script.model import Script
from tests.support.simulated_run import RECORDED, TESTS, Received, SimulatedRun

STEP, RUN = dispatcher_pb2.RESOURCE_TYPE_STEP_RUN, dispatcher_pb2.RESOURCE_TYPE_WORKFLOW_RUN
STARTED = dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED
SEEDS = range(8)
CONTRACT = load_script(TESTS / "support" / "contract.yaml")


def simulated(
    workflow: str,
    quirk: str,
    on: bool,
    *,
    seed: int = 1,
    lasts: float = 8.0,
    join: float | None = None,
    script: Script = RECORDED,
) -> SimulatedRun:
    """A run with that one quirk on or off, all others as they are; joined by run id at `join`."""
    simulated_run = SimulatedRun(workflow, seed, script=script, quirks={quirk: on})
    if join is not None:
        simulated_run.later(join, "joined")
    simulated_run.at(lasts)
    return simulated_run


def kinds(received: Received, resource: int) -> list[str]:
    names = dispatcher_pb2.ResourceEventType
    return [names.Name(e.event_type)[20:] for _, e in received.events if e.resource_type == resource]


def first(simulated_run: SimulatedRun) -> Received:
    return simulated_run.received["by_metadata_before_trigger"]


def chunk_times(received: Received, simulated_run: SimulatedRun) -> list[float]:
    return [t - simulated_run.begun for t, e in received.events if e.HasField("event_index")]


def tail(seed: int, **quirks: bool) -> tuple[list[int | None], list[int | None]]:
    """The indexes that a tap and a late joiner by run id receive of a task that returns after its chunk 19.

    None stands for the step's end.
    """
    simulated_run = SimulatedRun("tail", seed, quirks={"metadata_disorder": False, **quirks})
    simulated_run.later(0.25, "joined")
    simulated_run.at(3)
    return indexes(first(simulated_run)), indexes(simulated_run.received["joined"])


def indexes(received: Received) -> list[int | None]:
    sent = [e for _, e in received.events if e.resource_type == STEP and e.event_type != STARTED]
    return [e.event_index if e.HasField("event_index") else None for e in sent]


def test_flush_buffers() -> None:
    runs = [tail(seed) for seed in range(20)]
    assert all(set(tap) == {*range(20), None} for tap, _ in runs)
    assert any(tap[-1] == 19 for tap, _ in runs)
    assert any(late[-1] is None and 19 not in late for _, late in runs)
    for tap, late in (tail(seed, flush_buffers=False) for seed in range(20)):
        assert tap == [*range(20), None]
        assert late == [*range(min(i for i in late if i is not None), 20), None]


def test_the_end_of_a_run_comes_after_its_chunks_by_metadata_on_an_idle_engine() -> None:
    for seed in range(40):
        tap, _ = tail(seed, history_lag=False)
        assert set(tap) == {*range(20), None}


def test_sorted_flush() -> None:
    def in_order(on: bool) -> bool:
        simulated_run = SimulatedRun("big", 1, quirks={"sorted_flush": on, "metadata_disorder": False})
        simulated_run.at(0.1)
        for index in (2, 0, 1):
            simulated_run.core.put_chunk(
                simulated_run.run, next(iter(simulated_run.run.steps.values())), b"x", index
            )
        simulated_run.at(0.3)
        return [e.event_index for _, e in first(simulated_run).events if e.HasField("event_index")] == [
            0,
            1,
            2,
        ]

    assert in_order(True)
    assert not in_order(False)


def test_subscription_cost() -> None:
    def chunks_received(on: bool) -> int:
        simulated_run = SimulatedRun("burst", 1, quirks={"subscription_cost": on})
        for number in range(40):
            simulated_run.later(0.1, f"beside {number}")
        simulated_run.at(2)
        return kinds(first(simulated_run), STEP).count("STREAM")

    assert chunks_received(True) < 100 < chunks_received(False) == 200


@pytest.mark.parametrize("seed", SEEDS)
def test_false_end_of_dag(seed: int) -> None:
    false_end = first(simulated("chat", "false_end_of_dag", True, seed=seed))
    assert kinds(false_end, RUN) == ["COMPLETED"]
    assert false_end.ended is not None
    assert 0.04 < false_end.ended[0] - 0.4 < 0.15
    truth = first(simulated("chat", "false_end_of_dag", False, seed=seed))
    assert kinds(truth, STEP).count("STREAM") == 8
    assert kinds(truth, RUN) == ["COMPLETED"]


@pytest.mark.parametrize(("on", "ends"), [(True, ["FAILED", "COMPLETED"]), (False, ["COMPLETED"])])
def test_false_end_of_attempt(on: bool, ends: list[str]) -> None:
    assert kinds(first(simulated("flaky", "false_end_of_attempt", on, lasts=60)), RUN) == ends


def test_early_subscription_waits() -> None:
    late = simulated("chat", "early_subscription_waits", True, join=0.0).received["joined"]
    early = simulated("chat", "early_subscription_waits", False, join=0.0).received["joined"]
    assert late.events[0][0] - 0.4 > 1.0
    assert early.events[0][0] - 0.4 < 0.2


def test_five_second_hold() -> None:
    held, free = (
        simulated("contract_slow", "five_second_hold", on, join=0.5, lasts=12, script=CONTRACT)
        for on in (True, False)
    )
    late, prompt = (
        chunk_times(simulated_run.received["joined"], simulated_run) for simulated_run in (held, free)
    )
    assert prompt[0] < 0.7
    assert late[0] == pytest.approx(prompt[0] + 5.0, abs=0.05), "5 s after the first chunk that was held"
    assert len(late) == len(prompt) > 70, "held, not lost"


def test_the_end_of_a_step_releases_its_held_chunks() -> None:
    held = simulated("long", "five_second_hold", True, join=0.5)
    times, sent = chunk_times(held.received["joined"], held), chunk_times(first(held), held)
    assert len(times) == 25, "all that were sent after the join"
    assert set(times) == {times[0]}, "all at once"
    assert sent[-1] < times[0] < sent[-1] + 0.2


def test_finished_reads_queued() -> None:
    for on, status in ((True, "QUEUED"), (False, "COMPLETED")):
        state = simulated("chat", "finished_reads_queued", on, lasts=0.9).core_state()
        assert workflows_pb2.RunStatus.Name(state.task_runs["start"].status) == status
        assert bool(state.task_runs["start"].output) is not on


@pytest.mark.parametrize("seed", SEEDS)
def test_done_after_hangup(seed: int) -> None:
    for on in (True, False):
        simulated_run = SimulatedRun("fast", seed, quirks={"done_after_hangup": on})
        while first(simulated_run).ended is None:
            simulated_run.at(simulated_run.scheduler.now() - simulated_run.begun + 0.001)
        assert simulated_run.core_state().done or on
        simulated_run.at(1.0)
        assert simulated_run.core_state().done


def test_history_lag() -> None:
    for on in (True, False):
        simulated_run = SimulatedRun("fast", 1, quirks={"history_lag": on})
        simulated_run.at(0.03)
        assert simulated_run.run.is_visible(simulated_run.scheduler.now()) is not on


@pytest.mark.parametrize(
    ("workflow", "quirk", "kind"),
    [("timing", "silent_timeout", "TIMED_OUT"), ("selfcancel", "silent_cancel", "CANCELLED")],
)
def test_silent_ends_of_steps(workflow: str, quirk: str, kind: str) -> None:
    assert kind not in kinds(first(simulated(workflow, quirk, True)), STEP)
    assert kind in kinds(first(simulated(workflow, quirk, False)), STEP)


def test_silent_skip() -> None:
    for on, sent in ((True, 0), (False, 1)):
        simulated_run = SimulatedRun("dag2", 1, quirks={"silent_skip": on, "false_end_of_dag": False})
        simulated_run.at(8)
        skipped = simulated_run.run.steps["skipped"].id
        ends = [e for _, e in first(simulated_run).events if e.resource_id == skipped]
        assert len(ends) == 1 + sent


@pytest.mark.parametrize("seed", SEEDS)
def test_late_large_payloads(seed: int) -> None:
    lost = first(simulated("big", "late_large_payloads", True, seed=seed))
    assert "COMPLETED" not in kinds(lost, STEP)
    assert kinds(lost, STEP).count("STREAM") < 5
    whole = first(simulated("big", "late_large_payloads", False, seed=seed))
    assert kinds(whole, STEP) == ["STARTED", *["STREAM"] * 5, "COMPLETED"]


def test_bad_chunk_ends_all() -> None:
    broken = first(simulated("bytesy", "bad_chunk_ends_all", True))
    assert broken.ended is not None
    assert broken.ended[1] == "INTERNAL"
    fine = first(simulated("bytesy", "bad_chunk_ends_all", False))
    assert fine.ended is not None
    assert fine.ended[1] == "OK"


def test_late_started() -> None:
    def behind(on: bool, seed: int) -> bool:
        simulated_run = SimulatedRun("long", seed, quirks={"late_started": on})
        simulated_run.at(1)
        return kinds(first(simulated_run), STEP)[0] == "STREAM"

    assert any(behind(True, seed) for seed in range(40))
    assert not any(behind(False, seed) for seed in range(40))


def test_late_backoff() -> None:
    slow, quick = (simulated("flaky", "late_backoff", on, lasts=60) for on in (True, False))
    assert 25 < chunk_times(first(slow), slow)[3] < 45
    assert chunk_times(first(quick), quick)[3] < 4


def test_late_timeout() -> None:
    def ended(on: bool) -> float:
        simulated_run = simulated("timing", "late_timeout", on)
        return next(t for t, e in first(simulated_run).events if e.resource_type == RUN) - simulated_run.begun

    assert ended(True) > 3.1
    assert ended(False) < 3.12


def test_cancel_forgets_results() -> None:
    for on, status in ((True, "CANCELLED"), (False, "COMPLETED")):
        simulated_run = SimulatedRun("chat", 1, quirks={"cancel_forgets_results": on})
        simulated_run.at(0.9)
        simulated_run.core.cancel(simulated_run.run)
        simulated_run.at(2)
        state = simulated_run.core_state()
        assert workflows_pb2.RunStatus.Name(state.task_runs["start"].status) == status
        assert workflows_pb2.RunStatus.Name(state.status) == "CANCELLED"


def test_false_done_of_replay() -> None:
    for on in (True, False):
        simulated_run = SimulatedRun("chat", 1, quirks={"false_done_of_replay": on})
        simulated_run.at(5)
        simulated_run.core.replay(simulated_run.run)
        seen: list[bool] = []
        for hundredth in range(400):
            simulated_run.at(5 + hundredth / 100)
            if not seen or seen[-1] != simulated_run.run.done:
                seen.append(simulated_run.run.done)
        assert seen == ([False, True, False, True, False, True, False, True] if on else [False, True])


def test_chunks_after_cancel() -> None:
    for on in (True, False):
        simulated_run = SimulatedRun("long", 1, quirks={"chunks_after_cancel": on})
        simulated_run.at(1)
        simulated_run.core.cancel(simulated_run.run)
        simulated_run.at(4)
        assert (chunk_times(first(simulated_run), simulated_run)[-1] > 1.2) is on


def test_metadata_hangup() -> None:
    assert first(simulated("fast", "metadata_hangup", True)).ended is not None
    assert first(simulated("fast", "metadata_hangup", False)).ended is None


def test_metadata_disorder() -> None:
    def orders(on: bool) -> set[bool]:
        found = set()
        for seed in range(60):
            simulated_run = SimulatedRun(
                "big", seed, quirks={"metadata_disorder": on, "late_large_payloads": False}
            )
            for number in range(60):
                simulated_run.core.put_chunk(
                    simulated_run.run, next(iter(simulated_run.run.steps.values())), b"x", number
                )
            simulated_run.at(0.1)
            indexes = [e.event_index for _, e in first(simulated_run).events if e.HasField("event_index")]
            found.add(indexes == sorted(indexes))
        return found

    assert orders(True) == {True, False}
    assert orders(False) == {True}


def test_traceparent() -> None:
    assert "traceparent" in SimulatedRun("fast", 1, quirks={"traceparent": True}).run.metadata
    assert "traceparent" not in SimulatedRun("fast", 1, quirks={"traceparent": False}).run.metadata


def test_reordered_outputs() -> None:
    keys = {}
    for on in (True, False):
        past = simulated("chat", "reordered_outputs", on).past()
        task = next(task for task in past["tasks"] if task["actionId"] == "chat:load_docs")
        keys[on] = list(task["output"])
    assert keys == {True: ["docs", "status"], False: ["status", "docs"]}


def test_lifecycle_events() -> None:
    assert set(kinds(first(simulated("long", "lifecycle_events", False)), STEP)) == {"STREAM"}
    assert "STARTED" in kinds(first(simulated("long", "lifecycle_events", True)), STEP)


def test_newer_engine() -> None:
    early = simulated("chat", "newer_engine", True, join=0.0).received["joined"]
    assert early.events[0][0] - 0.4 < 0.2
    late = simulated("fast", "newer_engine", True, join=5.0).received["joined"]
    assert kinds(late, RUN) == ["COMPLETED"]
    assert late.events[0][1].hangup
    older = simulated("fast", "newer_engine", False, join=5.0).received["joined"]
    assert older.events == []


def test_every_quirk_has_a_name_a_default_and_a_fact() -> None:
    names = [name for name, _, _ in facts()]
    assert [attribute(name) for name in names] == [field.name for field in dataclasses.fields(Quirks)]
    assert {name for name, on, _ in facts() if not on} == {"newer-engine"}
    assert all(fact for _, _, fact in facts())


def test_an_unknown_quirk_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'five-second-hold'"):
        attribute("five-seconds-hold")


def test_without_quirks_every_subscription_receives_the_same_events() -> None:
    simulated_run = SimulatedRun("dagr", 3)
    simulated_run.core.world.quirks = NONE
    simulated_run.by_run("by_run")
    simulated_run.at(5)
    runs = [
        [
            (e.resource_id, e.event_type, e.event_payload, e.hangup)
            for _, e in simulated_run.received[name].events[-8:]
        ]
        for name in ("by_metadata_before_trigger", "by_run")
    ]
    assert runs[0] == runs[1]
