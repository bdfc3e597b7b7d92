"""A recorded run is played again, and a record of that is the same recording: bug reports become tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.hatchet.protobuf import workflows_pb2
from proxy.simulator import Engine
from proxy.simulator.api.subscriptions import MetadataSubscription, RunSubscription
from proxy.simulator.quirks import Quirks
from proxy.simulator.random_source import RandomSource
from proxy.simulator.recordings.client import Client
from proxy.simulator.recordings.parser import NotARecording, Recording, load_recording, parse_recording
from proxy.simulator.recordings.recorder import Recorder, Refused
from proxy.simulator.recordings.replayer import RecordedRun
from proxy.simulator.scheduler import ManualScheduler
from proxy.simulator.state.runs import Core
from proxy.simulator.world import World
from tests.support.contract import place
from tests.support.simulated_run import RECORDED, TESTS, Received, summary
from tests.support.waiting import until
from tests.unit.simulator.test_engine_recordings import SCENARIOS, recorded, step_names

TOKENS = TESTS / "recordings" / "rabbitmq" / "dag_with_tokens.jsonl"
FAST = 10.0
BOUND_AT_ONCE = {"early_subscription_waits": False}  # the chat's first chunk comes 1.4 s after the trigger


@pytest.mark.parametrize("path", SCENARIOS)
def test_every_recording_can_be_read(path: Path) -> None:
    recording = load_recording(path)
    assert recording.published
    assert recording.states[-1][1]["done"]


@pytest.mark.parametrize("path", SCENARIOS)
def test_a_replay_has_every_event_that_any_subscription_received_and_none_twice(path: Path) -> None:
    recording = load_recording(path)
    mine = [
        (m.step_run_id or m.run_id, m.kind, m.index, m.retry_count, m.payload) for _, m in recording.published
    ]
    chunks = [one for one in mine if one[2] is not None and one[4] != b"\xff"]
    received = set()
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        event = line.get("event", {})
        if "event_index" in event:
            received.add((event["resource_id"], event["event_index"], event["event_timestamp"]))
    assert len(chunks) == len(received)


def replaying(recording: Recording) -> tuple[ManualScheduler, Core]:
    """The engine's model without sockets, on a clock turned by hand, with one recording to play."""
    scheduler = ManualScheduler()
    quirks = Quirks().switched(metadata_disorder=False, metadata_hangup=False, false_end_of_dag=False)
    core = Core(RECORDED, World(scheduler, RandomSource(1), quirks))
    core.recordings = {"tokens": (recording, FAST)}
    return scheduler, core


def test_a_replay_reaches_a_subscription_as_the_recorded_run_reached_it() -> None:
    recording = load_recording(TOKENS)
    scheduler, core = replaying(recording)
    run = core.play_recording(core.tenants[0], "tokens")
    assert run.id == recording.run_id
    scheduler.advance(0.2 / FAST)
    received = Received(scheduler)
    RunSubscription(core, core.tenants[0], run.id, received)
    scheduler.advance(5.0 / FAST)
    names = step_names(TOKENS)
    wanted, ended = recorded(TOKENS, "after_200ms")
    assert [summary(event, names) for _, event in received.events] == wanted
    assert received.ended is not None
    assert received.ended[1] == ended
    assert run.details().done
    assert json.loads(run.details().task_runs["start"].output) == {"status": "reading hatchet docs"}
    answer = run.answer()
    assert answer is not None
    assert answer["run"]["status"] == "COMPLETED"


def test_a_recording_can_be_triggered_and_gets_ids_of_its_own() -> None:
    recording = load_recording(TOKENS)
    scheduler, core = replaying(recording)
    received = Received(scheduler)
    MetadataSubscription(core, core.tenants[0], "mine", "yes", received)
    run = core.trigger(core.tenants[0], "tokens", {}, {"mine": "yes"})
    assert run.id != recording.run_id
    scheduler.advance(5.0 / FAST)
    events = [event for _, event in received.events]
    assert [one.event_payload for one in events if one.HasField("event_index")][-1] == "true"
    assert {one.workflow_run_id for one in events} == {run.id}
    assert isinstance(run, RecordedRun)
    assert json.loads(run.details().additional_metadata)["mine"] == "yes"


async def test_a_recorded_run_is_served_over_grpc_and_rest() -> None:
    async with (
        Engine(recordings={"tokens": load_recording(TOKENS)}, speed=FAST) as engine,
        Client(place(engine.env)) as client,
    ):
        run_id = await client.trigger("tokens", {})

        async def done() -> bool:
            return (await client.details(run_id)).done

        async def stored() -> bool:  # the history follows the state after its lag
            status, answer = await client.history(run_id)
            assert status in {200, 404}
            return status == 200 and answer["run"]["status"] == "COMPLETED"

        await until(done, "the recorded run is done")
        await until(stored, "the recorded run is done in the history")


async def test_a_run_that_was_recorded_can_be_played_again() -> None:
    lines: list[str] = []
    async with Engine(speed=2, seed=2, quirks=BOUND_AT_ONCE) as engine, Client(place(engine.env)) as client:
        run_id = await client.trigger("chat", {"question": "why?"})
        await Recorder(client, run_id, lines.append, payloads=True).record()
    recording = parse_recording("mine", lines)
    assert recording.run_id == run_id
    chunks = [message for _, message in recording.published if message.index is not None]
    assert {message.index for message in chunks} == set(range(len(chunks)))
    assert b"".join(message.payload for message in chunks).startswith(b"You asked: why?")
    assert recording.states[-1][1]["status"] == "COMPLETED"


async def test_a_recording_has_no_payloads_unless_asked_for() -> None:
    lines: list[str] = []
    async with Engine(speed=2, quirks=BOUND_AT_ONCE) as engine, Client(place(engine.env)) as client:
        run_id = await client.trigger("chat", {"question": "SECRET?"}, {"user": "SECRET"})
        await Recorder(client, run_id, lines.append).record()
    text = "\n".join(lines)
    assert "SECRET" not in text
    assert "reading hatchet docs" not in text
    parsed = parse_recording("mine", lines)
    assert {len(m.payload) for _, m in parsed.published if m.index == 0} == {len("You")}


async def test_a_run_that_is_not_there_is_not_recorded() -> None:
    async with Engine() as engine, Client(place(engine.env)) as client:
        recorder = Recorder(client, "11111111-1111-4111-8111-111111111111", lambda line: None)
        with pytest.raises(Refused, match="workflow run not found"):
            await recorder.record()


def test_a_file_that_is_no_recording_is_refused_with_its_line() -> None:
    with pytest.raises(NotARecording, match="x:2: not a line of a recording"):
        parse_recording("x", ['{"t": 0, "source": "trigger", "workflow_run_id": "a"}', '{"t": "soon"}'])
    with pytest.raises(NotARecording, match="no line has the source `trigger`"):
        parse_recording("x", [])


def test_statuses_of_recordings_are_those_of_the_protocol() -> None:
    for case in SCENARIOS:
        for _, core in load_recording(case.values[0]).states:  # type: ignore[arg-type]
            workflows_pb2.RunStatus.Value(core["status"])
