"""The REST history's answers as values: whole answers of a real engine, and what may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core.instant import instant
from proxy.core.observations import PastState, PastStep, Status
from proxy.hatchet.rest_codec import newest_run, past_state, step_names, workflow_called

RECORDINGS = Path(__file__).parent.parent.parent / "recordings" / "rest"


def answer(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def steps(state: PastState) -> dict[str, PastStep]:
    return {step.name: step for step in state.steps}


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECORDINGS.glob("run_*.json"))])
def test_every_recorded_run_is_read_whole(name: str) -> None:
    given = answer(name)
    state = past_state(given)
    assert state.run_id == given["run"]["metadata"]["id"]
    assert state.status.value == given["run"]["status"]
    assert state.metadata == given["run"]["additionalMetadata"]
    assert state.finished_at == instant(given["run"]["finishedAt"])
    assert {step.step_run_id for step in state.steps} == {task["taskExternalId"] for task in given["tasks"]}
    assert sum(len(step.events) for step in state.steps) == len(given["taskEvents"])
    for step in state.steps:
        assert step.name
        assert step.retries is not None
        assert step.created_at is not None
        assert step.created_at > 0, "the year 1 stands for no time"
        times = [event.at for event in step.events if event.at is not None]
        assert len(times) == len(step.events)
        assert times == sorted(times)


def test_a_dag_shows_names_outputs_and_the_states_of_each_step() -> None:
    state = steps(past_state(answer("run_chat")))
    assert sorted(state) == ["generate_response", "load_docs", "reason_docs", "start"]
    start = state["start"]
    assert start.output == {"status": "reading hatchet docs"}
    assert [event.type for event in state["load_docs"].events] == [
        "QUEUED",
        "ASSIGNED",
        "SENT_TO_WORKER",
        "STARTED",
        "FINISHED",
    ]
    assert start.events[-2].type == "QUEUED"  # a first step's: its time is later than that of its STARTED
    assert start.events[-1].output == '{"status": "reading hatchet docs"}'
    assert (start.error, start.events[-1].error) == (None, None)


def test_a_retry_is_sent_with_its_attempts_and_the_steps_limit() -> None:
    two = steps(past_state(answer("run_dagr")))["two"]
    assert (two.retry_count, two.retries, two.status) == (1, 2, Status.COMPLETED)
    given = [(event.type, event.retry_count) for event in two.events]
    assert ("FAILED", 0) in given
    assert given.index(("FAILED", 0)) < given.index(("RETRYING", 1)) < given.index(("QUEUED", 1))
    assert given[-1] == ("FINISHED", 1)
    assert next(event.error for event in two.events if event.type == "FAILED") is not None


def test_failed_skipped_and_on_failure_steps_are_told_apart() -> None:
    state = past_state(answer("run_dag2"))
    by_name = steps(state)
    assert state.status is Status.FAILED
    assert sorted(by_name) == ["a-dash", "bad", "onfail-on-failure", "skipped"]
    assert by_name["bad"].status is Status.FAILED
    assert (by_name["bad"].error or "").startswith("RuntimeError: dag step died\n")
    assert [event.type for event in by_name["skipped"].events] == ["SKIPPED"]
    assert (by_name["skipped"].output, by_name["skipped"].started_at) == ({}, None)
    assert by_name["onfail-on-failure"].retries == 0


def test_a_standalone_task_has_its_runs_id_and_no_events() -> None:
    state = past_state(answer("run_flaky"))
    (flaky,) = state.steps
    assert flaky.step_run_id == state.run_id
    assert (flaky.name, flaky.retry_count, flaky.retries, flaky.events) == ("flaky", 1, 2, ())
    assert flaky.created_at == instant("2026-11-22T07:44:22.22695Z")


def test_names_come_from_the_action_where_shape_and_config_are_gone() -> None:
    given = answer("run_chat")
    del given["shape"], given["workflowConfig"]
    state = steps(past_state(given))
    assert sorted(state) == ["generate_response", "load_docs", "reason_docs", "start"]
    assert state["start"].retries is None


def test_an_evicted_task_is_evicted_whatever_its_status_says() -> None:
    given = answer("run_flaky")
    given["tasks"][0] |= {"status": "RUNNING", "isEvicted": True}
    assert past_state(given).steps[0].status is Status.EVICTED


def test_the_newest_run_that_carries_the_pair_is_found() -> None:
    given = answer("list_by_metadata")
    assert newest_run(given, "stream", "on") == ("4c21b03b-7ea3-4587-9e6a-5633b4e5962f", 2)
    assert newest_run({**given, "rows": given["rows"][::-1]}, "stream", "on")[0] == (
        "4c21b03b-7ea3-4587-9e6a-5633b4e5962f"
    )


def test_children_and_runs_with_another_pair_are_passed_over() -> None:
    given = answer("list_by_metadata")
    given["rows"][0]["parentTaskExternalId"] = "22222222-2222-4222-8222-222222222222"
    assert newest_run(given, "stream", "on")[0] == "26164ee8-7a86-4b25-9534-0db21aa2a44a"
    assert newest_run(given, "stream", "off") == (None, 2)
    assert newest_run({"rows": None}, "stream", "on") == (None, 0)


def test_a_workflow_is_found_by_its_whole_name() -> None:
    rows = [{"name": "chat_2", "metadata": {"id": "2"}}, {"name": "Chat", "metadata": {"id": "1"}}]
    assert workflow_called({"rows": rows}, "chat") == "1"
    assert workflow_called({"rows": rows}, "cha") is None


def test_the_steps_of_a_version_are_listed_as_written_with_the_on_failure_step_last() -> None:
    assert step_names(answer("run_dag2")) == ("a-dash", "bad", "skipped", "onfail-on-failure")
    assert step_names({}) == ()
