"""The contract: what a stream proxy may count on, and what it must survive, of any Hatchet engine.

Runs against the embedded engine always; against a real one where HATCHET_CLIENT_TOKEN is set (marker `real`),
with `tests/support/real_worker.py` running the same workflows (tests/support/contract.yaml).
The verdicts must be the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from proxy.hatchet.endpoint import Endpoint
from proxy.hatchet.protobuf import dispatcher_pb2
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from proxy.simulator.stubs import TRIGGER, shared_pb2
from tests.support.contract import (
    BOUND,
    NOBODY,
    RUN,
    STEP,
    Begin,
    Heard,
    Status,
    Trial,
    now_and_then,
    place,
    refusal,
    statuses,
)

TESTS = Path(__file__).parent.parent
SCRIPT = TESTS / "support" / "contract.yaml"
ENV = {name: value for name, value in os.environ.items() if name.startswith("HATCHET_CLIENT_")}
pytestmark = pytest.mark.timeout(90)


# -- either engine -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real_worker() -> Iterator[None]:
    """A worker on the real engine, for the session."""
    ready = TESTS / "support" / "real_worker.py"
    command = [sys.executable, str(ready), str(SCRIPT)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TESTS.parent
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if "waiting for tasks" in line:
                break
        else:
            pytest.fail("the worker did not start")
        yield
        worker.terminate()
        worker.stdout.read()


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "real",
            marks=[
                pytest.mark.real,
                pytest.mark.skipif("HATCHET_CLIENT_TOKEN" not in ENV, reason="needs HATCHET_CLIENT_TOKEN"),
            ],
        ),
    ]
)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "real":
        request.getfixturevalue("real_worker")
        async with Client(place(ENV)) as client:
            yield client
        return
    quirks = {"late_backoff": False}
    async with Engine(SCRIPT, quirks=quirks, seed=11) as engine, Client(place(engine.env)) as client:
        yield client


@pytest.fixture
async def begin(client: Client) -> AsyncIterator[Callable[..., Awaitable[tuple[Trial, Heard]]]]:
    """Trigger a workflow, with a subscription by metadata that was there before."""
    trials: list[Trial] = []

    async def begin(workflow: str, metadata: dict[str, Any] | None = None) -> tuple[Trial, Heard]:
        trial = Trial(client, "", str(uuid.uuid4()))
        trials.append(trial)
        first = trial.listen(pair=trial.pair)
        await asyncio.sleep(0.3)
        trial.begun = time.monotonic()
        trial.run_id = await client.trigger(workflow, {}, {trial.pair[0]: trial.pair[1], **(metadata or {})})
        return trial, first

    yield begin
    for trial in trials:
        await trial.close()


# -- the end is a lie ----------------------------------------------------------------------------


async def test_a_dag_that_has_just_begun_is_called_completed(begin: Begin) -> None:
    async def lied() -> bool:
        trial, first = await begin("contract_dag")
        await trial.until(lambda: first.ended is not None)
        when, event = first.said(RUN, "COMPLETED")[0]
        assert event.hangup
        return when < 0.5 and not (await trial.state()).done

    assert await now_and_then(lied)


async def test_a_failed_attempt_with_retries_left_is_called_the_runs_end(begin: Begin) -> None:
    trial, _ = await begin("contract_retry")
    await trial.at(BOUND)
    heard = trial.listen(trial.run_id)
    await trial.until(lambda: heard.ended is not None)
    assert heard.said(RUN, "FAILED")[0][1].hangup
    assert not (await trial.state()).done
    assert Status.Name((await trial.done()).status) == "COMPLETED"


async def test_the_last_steps_retry_is_called_failed_then_completed(begin: Begin) -> None:
    trial, _ = await begin("contract_last_retry")
    await trial.at(BOUND)
    heard = trial.follow()
    state = await trial.done()
    await trial.until(lambda: heard.ended is not None)
    ends = [event.event_type for _, event in heard.events if event.resource_type == RUN]
    failed, completed = (
        dispatcher_pb2.RESOURCE_EVENT_TYPE_FAILED,
        dispatcher_pb2.RESOURCE_EVENT_TYPE_COMPLETED,
    )
    assert ends[ends.index(failed) :][:2] == [failed, completed]
    assert Status.Name(state.status) == "COMPLETED"


async def test_a_replayed_dag_reads_done_between_two_steps(begin: Begin, client: Client) -> None:
    async def lied() -> bool:
        trial, _ = await begin("contract_dag_fine")
        await trial.done()
        assert (await client.act("replay", trial.run_id))[0] == 200
        seen = [(await trial.state()).done]
        until = trial.now() + 1.5
        while trial.now() < until:
            seen.append((await trial.state()).done)
            await asyncio.sleep(0.003)
        changes = [now for before, now in pairwise(seen) if now != before]
        return changes.count(True) >= 2

    assert await now_and_then(lied)


# -- the state -----------------------------------------------------------------------------------


async def test_a_finished_step_reads_queued_without_output_while_the_run_goes_on(begin: Begin) -> None:
    trial, _ = await begin("contract_dag")
    await trial.at(0.8)
    state = await trial.state()
    assert not state.done
    assert statuses(state) == {"one": "QUEUED", "two": "RUNNING"}
    assert not state.task_runs["one"].output
    done = await trial.done()
    assert json.loads(done.task_runs["one"].output) == {"one": 1, "also": "first"}


async def test_the_history_gives_outputs_while_the_run_goes_on(begin: Begin) -> None:
    trial, _ = await begin("contract_dag")

    async def given() -> bool:
        history = await trial.history()
        return any(task["output"] == {"one": 1, "also": "first"} for task in (history or {}).get("tasks", ()))

    await trial.until(given, within=2.0)
    assert not (await trial.state()).done


async def test_the_history_shows_a_dags_task_events_but_not_a_tasks(begin: Begin) -> None:
    dag, _ = await begin("contract_dag_retry")
    task, _ = await begin("contract_task")
    await dag.done()
    await task.done()
    await asyncio.sleep(0.3)
    told = {(one["eventType"], one["retryCount"]) for one in (await dag.history())["taskEvents"]}
    assert told >= {
        ("QUEUED", 0),
        ("STARTED", 0),
        ("FAILED", 0),
        ("RETRYING", 1),
        ("STARTED", 1),
        ("FINISHED", 1),
    }
    assert (await task.history())["taskEvents"] == []


async def test_the_history_says_how_many_retries_a_step_has(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_retry")
    await trial.done()
    declared = {
        one["ReadableId"]: one["Retries"] for one in (await trial.history())["workflowConfig"]["Tasks"]
    }
    assert declared == {"one": 0, "two": 2, "three": 0}


async def test_a_step_that_returned_nothing_has_no_output_in_the_core_and_an_empty_one_in_the_history(
    begin: Begin,
) -> None:
    trial, first = await begin("contract_nothing")
    state = await trial.done()
    assert not state.task_runs["contract_nothing"].output
    await asyncio.sleep(0.3)
    assert (await trial.history())["tasks"][0]["output"] == {}
    assert first.said(STEP, "COMPLETED")[0][1].event_payload == ""


async def test_metadata_gets_a_traceparent_and_it_can_be_subscribed_to(begin: Begin) -> None:
    trial, _ = await begin("contract_slow")
    metadata = json.loads((await trial.state()).additional_metadata)
    heard = trial.listen(pair=("traceparent", metadata["traceparent"]))
    await trial.until(lambda: bool(heard.chunks()), within=3.0)


# -- live ----------------------------------------------------------------------------------------


async def test_a_subscription_before_the_trigger_hears_all(begin: Begin) -> None:
    trial, first = await begin("contract_task")
    await trial.done()
    await trial.until(lambda: bool(first.said(RUN, "COMPLETED")))
    (_, started), (_, a), (_, b), (_, completed), (_, over) = first.events
    assert started.event_type == dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED
    assert [(a.event_payload, a.event_index), (b.event_payload, b.event_index)] == [("a", 0), ("b", 1)]
    assert not a.HasField("retry_count")
    assert json.loads(completed.event_payload) == {"fine": True}
    assert completed.retry_count == 0
    assert {one.resource_id for _, one in first.events} == {trial.run_id}
    assert over.hangup


async def test_started_is_told_once_whatever_is_retried(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_retry")
    await trial.at(BOUND)
    heard = trial.follow()
    state = await trial.done()
    await trial.until(lambda: heard.ended is not None)
    started = [one.resource_id for _, one in heard.said(STEP, "STARTED")]
    assert started == [state.task_runs["two"].external_id, state.task_runs["three"].external_id]


async def test_a_failed_attempt_carries_its_retry_count_and_its_error(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_retry")
    await trial.at(BOUND)
    heard = trial.follow()
    state = await trial.done()
    ((_, failed),) = heard.said(STEP, "FAILED")
    assert failed.retry_count == 0
    assert failed.event_payload.startswith("ValueError: boom\n")
    assert state.task_runs["two"].external_id in failed.event_payload.splitlines()[-1]
    assert [one.retry_count for _, one in heard.said(STEP, "COMPLETED")][1] == 1


async def test_subscribed_at_once_by_run_id_begins_a_second_late(
    begin: Begin, request: pytest.FixtureRequest
) -> None:
    async def slept() -> bool:
        """The fact says "often": a quick engine binds at once now and then."""
        trial, _ = await begin("contract_slow")
        heard = trial.listen(trial.run_id)
        await trial.until(lambda: bool(heard.events), within=9.0)
        if heard.events[0][0] <= 1.0:
            return False
        assert heard.chunks()[0][1].strip(". ") != "0"
        return True

    saw = await now_and_then(slept)
    if not saw and "real" in request.node.name:
        pytest.skip("this engine's read side was never behind in all of these runs")
    assert saw


async def test_subscribed_a_moment_later_binds_at_once(begin: Begin) -> None:
    trial, _ = await begin("contract_dag")
    await trial.at(BOUND)
    heard = trial.follow()
    await trial.until(lambda: heard.ended is not None)
    first_completed = heard.said(STEP, "COMPLETED")[0]
    assert first_completed[0] < 1.0
    assert [text for _, text in heard.chunks()] == ["the", "quick", "brown", "fox"]


async def test_a_late_joiner_by_run_id_waits_five_seconds_for_chunks(begin: Begin) -> None:
    trial, _ = await begin("contract_slow")
    await trial.at(1.0)
    heard = trial.listen(trial.run_id)
    await trial.until(lambda: bool(heard.chunks()), within=7.5)
    assert 5.0 < heard.chunks()[0][0] - 1.0 < 6.5
    assert heard.gap_free()


async def test_a_late_joiner_by_metadata_gets_the_next_chunk(begin: Begin) -> None:
    trial, _ = await begin("contract_slow")
    await trial.at(1.0)
    heard = trial.listen(pair=trial.pair)
    await trial.until(lambda: bool(heard.chunks()), within=3.0)
    assert heard.chunks()[0][0] < 1.5


async def test_after_a_retry_chunks_by_run_id_are_held_until_the_step_ends(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_retry")
    await trial.at(BOUND)
    heard = trial.follow()
    await trial.done()
    await trial.until(lambda: heard.ended is not None)
    second = [t for t, _ in heard.chunks()][3:]
    end = heard.said(STEP, "COMPLETED")[1][0]
    assert len(second) == 3
    assert end - second[0] < 0.1


async def test_a_run_that_is_over_ends_with_ok_and_without_an_event(begin: Begin) -> None:
    trial, _ = await begin("contract_task")
    await trial.done()
    await asyncio.sleep(0.3)
    heard = trial.listen(trial.run_id)
    await trial.until(lambda: heard.ended is not None)
    assert heard.events == []
    assert heard.ended is not None and heard.ended[1] == "OK"


async def test_by_metadata_failed_does_not_hang_up(begin: Begin) -> None:
    trial, first = await begin("contract_fails")
    await trial.done()
    await trial.until(lambda: bool(first.said(RUN, "FAILED")))
    assert not first.said(RUN, "FAILED")[0][1].hangup
    await asyncio.sleep(0.3)
    assert first.ended is None


# -- what is never told --------------------------------------------------------------------------


async def test_a_timeout_gives_no_step_event(begin: Begin) -> None:
    trial, first = await begin("contract_times_out")
    state = await trial.done()
    await trial.until(lambda: bool(first.said(RUN, "FAILED")))
    assert [one.event_type for _, one in first.events if one.resource_type == STEP] == [
        dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED
    ]
    assert state.task_runs["contract_times_out"].error == "Task exceeded timeout of 2s"
    assert (await trial.history())["tasks"][0]["errorMessage"] == ""


async def test_a_skipped_step_is_started_and_never_ended(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_fails")
    await trial.at(BOUND)
    heard = trial.follow()
    state = await trial.done()
    await trial.until(lambda: heard.ended is not None)
    skipped = [e for _, e in heard.events if e.resource_id == state.task_runs["skipped"].external_id]
    assert [one.event_type for one in skipped] == [dispatcher_pb2.RESOURCE_EVENT_TYPE_STARTED]
    assert statuses(state) == {
        "a-dash": "COMPLETED",
        "skipped": "COMPLETED",
        "beside": "COMPLETED",
        "bad": "FAILED",
        "below": "CANCELLED",
        "cleanup-on-failure": "COMPLETED",
    }
    for name in ("skipped", "beside"):
        assert json.loads(state.task_runs[name].output) == {"skipped": True}
    history = await trial.history()
    ids = {task["taskExternalId"]: task for task in history["tasks"]}
    assert ids[state.task_runs["skipped"].external_id]["output"] == {}
    assert "SKIPPED" in {one["eventType"] for one in history["taskEvents"]}


async def test_a_step_on_failure_that_is_not_needed_is_started_and_skipped(begin: Begin) -> None:
    trial, _ = await begin("contract_dag_fine")
    state = await trial.done()
    assert json.loads(state.task_runs["cleanup-on-failure"].output) == {"skipped": True}
    assert Status.Name(state.status) == "COMPLETED"


async def test_a_users_cancellation_tells_the_runs_end_only(begin: Begin, client: Client) -> None:
    trial, first = await begin("contract_slow")
    await trial.at(1.0)
    assert (await client.act("cancel", trial.run_id))[0] == 200
    await trial.until(lambda: bool(first.said(RUN, "CANCELLED")))
    state = await trial.done()
    assert not first.said(STEP, "CANCELLED")
    assert statuses(state) == {"contract_slow": "CANCELLED"}


async def test_a_cancelled_dag_may_forget_in_the_core_what_was_finished(begin: Begin, client: Client) -> None:
    trial, _ = await begin("contract_dag_slow")
    await trial.at(1.0)
    await client.act("cancel", trial.run_id)
    state = await trial.done()
    assert {statuses(state)[name] for name in ("two", "three")} == {"CANCELLED"}
    one = state.task_runs["one"]  # seen both ways on a real engine; the embedded one always forgets
    assert (Status.Name(one.status), bool(one.output)) in {("CANCELLED", False), ("COMPLETED", True)}
    await asyncio.sleep(0.2)
    told = {task["actionId"]: task["status"] for task in (await trial.history())["tasks"]}
    assert told["contract_dag_slow:one"] == "COMPLETED"


async def test_a_step_that_cancels_itself_is_told_by_the_run_only(begin: Begin) -> None:
    trial, first = await begin("contract_cancels_itself")
    state = await trial.done()
    await trial.until(lambda: bool(first.said(RUN, "CANCELLED")))
    assert not first.said(STEP, "CANCELLED")
    assert statuses(state) == {"contract_cancels_itself": "CANCELLED"}


async def test_chunks_come_after_a_cancellation_that_the_worker_does_not_notice(
    begin: Begin, client: Client
) -> None:
    trial, first = await begin("contract_deaf")
    await trial.at(0.8)
    await client.act("cancel", trial.run_id)
    await trial.until(lambda: bool(first.said(RUN, "CANCELLED")))
    cancelled = first.said(RUN, "CANCELLED")[0][0]
    await trial.until(lambda: first.chunks()[-1][0] > cancelled + 0.5)


async def test_a_replay_of_a_failed_task_goes_on_with_the_same_ids(begin: Begin, client: Client) -> None:
    trial, first = await begin("contract_fails")
    await trial.done()
    await client.act("replay", trial.run_id)
    await trial.until(lambda: len(first.said(STEP, "FAILED")) == 2)
    (_, before), (_, after) = first.said(STEP, "FAILED")
    assert (before.retry_count, after.retry_count) == (0, 1)
    assert before.resource_id == after.resource_id
    assert len(first.said(STEP, "STARTED")) == 1


# -- children, payloads, bytes ---------------------------------------------------------------------


async def test_a_child_is_a_run_of_its_own(begin: Begin) -> None:
    trial, _ = await begin("contract_parent")
    await trial.at(BOUND)
    heard = trial.listen(trial.run_id)
    await trial.done()
    await trial.until(lambda: heard.ended is not None)
    assert {event.workflow_run_id for _, event in heard.events} == {trial.run_id}


async def test_large_payloads_are_not_seen_before_the_end(begin: Begin) -> None:
    trial, first = await begin("contract_large")
    state = await trial.done()
    await trial.until(lambda: bool(first.said(RUN, "COMPLETED")))
    assert not [e for _, e in first.said(STEP, "COMPLETED") if len(e.event_payload) > 100_000]
    assert len(state.task_runs["contract_large"].output) > 100_000


async def test_a_chunk_that_is_not_utf8_ends_every_subscription_with_internal(begin: Begin) -> None:
    trial, first = await begin("contract_bytes")
    await trial.at(BOUND)
    heard = trial.listen(trial.run_id)
    await trial.until(lambda: first.ended is not None and heard.ended is not None)
    for one in (first, heard):
        assert [text for _, text in one.chunks()] == ["ok0"]
        assert one.ended is not None and one.ended[1] == "INTERNAL"
        assert "invalid UTF-8" in one.ended[2]
    reopened = trial.listen(pair=trial.pair)
    await trial.until(lambda: [text for _, text in reopened.chunks()] == ["ok2"], within=3.0)


async def test_a_foreign_client_puts_a_chunk_by_step_run_id(begin: Begin, client: Client) -> None:
    trial, _ = await begin("contract_dag_slow")
    await trial.at(1.2)
    heard = trial.listen(pair=trial.pair)
    step = (await trial.state()).task_runs["two"].external_id
    await asyncio.sleep(0.2)
    await client.put(step, b"from elsewhere", 0)
    await trial.until(lambda: [text for _, text in heard.chunks()] == ["from elsewhere"])
    assert heard.said(STEP, "STREAM")[0][1].resource_id == step
    await client.act("cancel", trial.run_id)


# -- refusals --------------------------------------------------------------------------------------


async def test_the_statuses_of_what_cannot_be(client: Client) -> None:
    assert await refusal(client.details("nonsense")) == "INVALID_ARGUMENT"
    assert await refusal(client.details(NOBODY)) == "NOT_FOUND"
    assert await refusal(client.put("nonsense", b"x")) == "INVALID_ARGUMENT"
    assert await refusal(client.put(NOBODY, b"x")) == "NOT_FOUND"
    assert await refusal(anext(client.subscribe("nonsense"))) == "INVALID_ARGUMENT"
    assert await refusal(anext(client.subscribe())) == "INVALID_ARGUMENT"
    assert (await client.history(NOBODY))[0] == 404
    assert (await client.history("nonsense"))[0] == 400


async def test_an_unknown_run_is_looked_for_ten_times(client: Client) -> None:
    begun = time.monotonic()
    assert await refusal(anext(client.subscribe(NOBODY))) == "NOT_FOUND"
    assert 8.5 < time.monotonic() - begun < 12


async def test_an_unknown_workflow_gives_an_id_that_no_one_knows(client: Client) -> None:
    run_id = await client.trigger("contract_no_such_workflow")
    await asyncio.sleep(0.3)
    assert await refusal(client.details(run_id)) == "NOT_FOUND"


async def test_an_input_that_is_no_json_is_an_invalid_argument(client: Client) -> None:
    request = shared_pb2.TriggerWorkflowRequest(name="contract_task", input="{")
    assert await refusal(client.ask(TRIGGER, request.SerializeToString())) == "INVALID_ARGUMENT"


async def test_a_message_over_4_mib_is_resource_exhausted(client: Client) -> None:
    assert await refusal(client.trigger("contract_task", {"text": "x" * 5_000_000})) == "RESOURCE_EXHAUSTED"


async def test_ids_may_be_written_in_capitals(begin: Begin, client: Client) -> None:
    trial, _ = await begin("contract_task")
    assert (await client.details(trial.run_id.upper())).task_runs
    await trial.done()


async def test_a_wrong_token_is_unauthenticated_and_forbidden(begin: Begin, client: Client) -> None:
    trial, _ = await begin("contract_task")
    await trial.done()
    stranger = Endpoint(
        "nonsense", client._at.tenant, client._at.host_port, client._at.api, client._at.tls, 1
    )
    async with Client(stranger) as wrong:
        assert await refusal(wrong.details(trial.run_id)) == "UNAUTHENTICATED"
        assert await refusal(anext(wrong.subscribe(trial.run_id))) == "UNAUTHENTICATED"
        assert (await wrong.history(trial.run_id))[0] == 403
        assert (await wrong.list_runs([("since", "2026-01-01T00:00:00Z"), ("only_tasks", "false")]))[0] == 403


async def test_the_list_finds_runs_by_metadata_newest_first(begin: Begin, client: Client) -> None:
    shared = str(uuid.uuid4())
    trials = [(await begin("contract_task", {"shared": shared}))[0] for _ in range(2)]
    for trial in trials:
        await trial.done()
    await asyncio.sleep(0.3)
    query = [
        ("since", "2026-01-01T00:00:00Z"),
        ("only_tasks", "false"),
        ("additional_metadata", f"shared:{shared}"),
    ]
    status, answer = await client.list_runs(query)
    assert status == 200
    assert [row["workflowRunExternalId"] for row in answer["rows"]] == [trials[1].run_id, trials[0].run_id]
