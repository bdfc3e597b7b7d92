"""The Hatchet client on whole engines, embedded and real, compared with hatchet-sdk's own client.

The real engine is the one of HATCHET_CLIENT_TOKEN (marker ``real``); its worker is started here.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config.model.files import HatchetConfig
from proxy.core.instant import SECOND
from proxy.core.observations import CoreState, Kind, LiveEvent, PastState, Status
from proxy.hatchet.client import HatchetClient
from proxy.hatchet.errors import (
    BadChunk,
    HatchetAway,
    HatchetError,
    HistoryAway,
    MessageTooLarge,
    RateLimited,
    RunUnknown,
    TokenRefused,
)
from proxy.observability.counters import TeamCounters
from proxy.observability.event_log import EventLog
from proxy.simulator import Engine
from proxy.simulator.recordings.client import Client
from proxy.teams.monitored_upstream import MonitoredUpstream
from tests.support.contract import BOUND, LISTENING, place
from tests.support.real_engine import RealWorker, contract_worker, run_worker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own, at import
    from hatchet_sdk import ClientConfig, Hatchet
    from hatchet_sdk.config import ClientTLSConfig

TESTS = Path(__file__).parent.parent
SCRIPT = TESTS / "support" / "contract.yaml"
POLL = 0.05  # seconds between two looks at what has no event; the test's timeout bounds the wait
PAST_LOOKUP = 0.5  # seconds: a younger run is looked up again only after a second
WORDS = ["the", "quick", "brown", "fox"]
ENGINES = ["embedded", pytest.param("real", marks=pytest.mark.real)]


class Setup:
    """An engine with the contract's workflows, and two clients of it: ours and Hatchet's."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.token = env["HATCHET_CLIENT_TOKEN"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.sdk = Hatchet(config=self._sdk_config())
        self.hatchet = self.open()

    def _sdk_config(self) -> ClientConfig:
        given: dict[str, Any] = {
            "host_port": self.env.get("HATCHET_CLIENT_HOST_PORT"),
            "server_url": self.env.get("HATCHET_CLIENT_SERVER_URL"),
        }
        tls = ClientTLSConfig(strategy=self.env.get("HATCHET_CLIENT_TLS_STRATEGY", "tls"))
        return ClientConfig(
            token=self.token, tls_config=tls, **{name: value for name, value in given.items() if value}
        )

    def open(self, token: str | None = None) -> HatchetClient:
        return HatchetClient(HatchetConfig.model_validate({"token": token or self.token}), self.env)

    async def trigger(self, workflow: str, **metadata: str) -> str:
        run = self.sdk.workflow(name=workflow)
        reference = await run.aio_run(wait_for_result=False, additional_metadata=metadata)
        return str(reference.workflow_run_id)

    async def listen(self, key: str, value: str, events: list[LiveEvent], opened: asyncio.Event) -> None:
        """Subscribe by metadata, again after each hangup: the engine hangs up when it sees no active run."""
        while True:
            await self.hatchet.follow_metadata(key, value, events.append, opened.set)

    async def done(self, run_id: str) -> CoreState:
        """The state at the run's end; the test's timeout bounds the wait."""
        while True:
            with suppress(RunUnknown):  # a busy engine knows it some time after the trigger only
                state = await self.hatchet.core(run_id)
                if state.done:
                    return state
            await asyncio.sleep(POLL)

    async def done_or_running(self, run_id: str) -> CoreState:
        """The state as soon as the engine answers again."""
        while True:
            try:
                return await self.hatchet.core(run_id)
            except HatchetAway:
                await asyncio.sleep(POLL)

    async def settled(self, run_id: str) -> PastState:
        """The history at the run's end: it lags behind the core."""
        while True:
            past = await self.hatchet.past(run_id)
            if past is not None and past.status not in (Status.QUEUED, Status.RUNNING):
                return past
            await asyncio.sleep(POLL)

    async def follow(self, run_id: str, events: list[LiveEvent]) -> None:
        """Every event until the state says done, subscribing again as often as it needs."""
        while not (await self.hatchet.core(run_id)).done:
            await self.hatchet.follow(run_id, events.append)
            await asyncio.sleep(POLL)


@pytest.fixture(params=ENGINES)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    if request.param == "real":
        if "HATCHET_CLIENT_TOKEN" not in os.environ:
            pytest.skip("HATCHET_CLIENT_TOKEN is not set")
        worker: RealWorker = request.getfixturevalue("worker")
        made = Setup(dict(os.environ))
        async with Client(place(made.env)) as client:
            await worker.takes_runs(client, "contract_task")
        yield made
        await made.hatchet.close()
        return
    async with Engine(SCRIPT, seed=1) as engine:
        made = Setup(engine.env)
        yield made
        await made.hatchet.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A hatchet-sdk worker with the contract's workflows."""
    with run_worker(contract_worker(SCRIPT), tmp_path_factory.mktemp("worker") / "log") as worker:
        yield worker


async def test_a_dag_is_seen_live_in_the_core_and_in_the_history(setup: Setup) -> None:
    key = str(uuid4())
    events: list[LiveEvent] = []
    opened = asyncio.Event()
    early = asyncio.create_task(setup.listen("label", key, events, opened))
    await opened.wait()
    await asyncio.sleep(LISTENING)
    run_id = await setup.trigger("contract_dag", label=key)
    state = await setup.done(run_id)
    past = await setup.settled(run_id)
    early.cancel()

    assert {event.run_id for event in events} == {run_id}
    chunks = sorted((event.index or 0, event.payload) for event in events if event.kind is Kind.STREAM)
    assert chunks == list(enumerate(WORDS))
    assert all(abs((event.at or 0) - time.time_ns()) < 60 * SECOND for event in events), "this minute"
    assert (state.status, {step.name: step.status for step in state.steps}) == (
        Status.COMPLETED,
        dict.fromkeys(("one", "two", "three"), Status.COMPLETED),
    )
    assert state.metadata["label"] == key
    assert "traceparent" in state.metadata
    assert past.status is Status.COMPLETED
    assert {step.name: step.output for step in past.steps}["three"] == {"three": 3}
    assert {step.step_run_id for step in past.steps} == {step.step_run_id for step in state.steps}
    assert await setup.hatchet.find("label", key) == run_id


async def test_hatchets_own_client_gets_the_same_chunks_as_we_do(setup: Setup) -> None:
    run_id = await setup.trigger("contract_slow")
    await asyncio.sleep(PAST_LOOKUP)
    theirs: list[str] = []
    ours: list[LiveEvent] = []

    async def listen() -> None:
        async for text in setup.sdk.runs.subscribe_to_stream(run_id):
            theirs.append(text)

    listening = asyncio.create_task(listen())
    await setup.follow(run_id, ours)
    await asyncio.wait_for(listening, 10)
    got = [event.payload for event in ours if event.kind is Kind.STREAM]
    common = [text for text in got if text in set(theirs)]
    assert len(common) > 40
    assert common == [text for text in theirs if text in set(got)]


async def test_a_retry_is_sent_with_its_attempt(setup: Setup) -> None:
    run_id = await setup.trigger("contract_dag_retry")
    events: list[LiveEvent] = []
    await setup.follow(run_id, events)
    past = await setup.settled(run_id)
    failed = [event.retry_count for event in events if event.kind is Kind.FAILED and event.step_run_id]
    assert failed in ([], [0])  # live it can be missed; the history has it
    two = next(step for step in past.steps if step.name == "two")
    assert (two.retry_count, two.retries, two.status) == (1, 2, Status.COMPLETED)
    assert ("FAILED", 0) in [(event.type, event.retry_count) for event in two.events]


async def test_failed_skipped_and_on_failure_steps(setup: Setup) -> None:
    run_id = await setup.trigger("contract_dag_fails")
    state = await setup.done(run_id)
    past = await setup.settled(run_id)
    assert state.status is Status.FAILED
    bad = next(step for step in state.steps if step.name == "bad")
    assert bad.status is Status.FAILED
    assert (bad.error or "").startswith("RuntimeError: dag step died")
    skipped = next(step for step in past.steps if step.name == "skipped")
    assert [event.type for event in skipped.events] == ["SKIPPED"]
    assert "cleanup-on-failure" in {step.name for step in past.steps} | {step.name for step in state.steps}


async def test_unknown_runs_and_wrong_tokens_are_distinct_errors(setup: Setup) -> None:
    with pytest.raises(RunUnknown):
        await setup.hatchet.core(str(uuid4()))
    assert await setup.hatchet.past(str(uuid4())) is None
    assert await setup.hatchet.find("label", str(uuid4())) is None
    await MonitoredUpstream(setup.hatchet, EventLog(), "chat", TeamCounters()).check()
    stranger = setup.open(setup.token[:-4] + "AAAA")
    calls: list[Any] = [
        stranger.core(str(uuid4())),
        stranger.follow(str(uuid4()), lambda event: None),
    ]
    for call in calls:
        with pytest.raises(TokenRefused):
            await call
    await stranger.close()


async def test_a_run_is_found_by_any_value(setup: Setup) -> None:
    async def one(value: str) -> None:
        run_id = await setup.trigger("contract_task", label=value)
        await setup.settled(run_id)
        assert await setup.hatchet.find("label", value) == run_id, value

    values = ["a:b", "a, b", "a&b=c", "ü☀", "100%", '"quoted"', "a\\b"]
    await asyncio.gather(*(one(f"{value} {uuid4()}") for value in values))


async def test_a_chunk_that_is_no_utf8_is_a_bad_chunk_and_the_next_subscription_goes_on(setup: Setup) -> None:
    run_id = await setup.trigger("contract_bytes")
    await asyncio.sleep(BOUND)
    ends: list[str] = []
    events: list[LiveEvent] = []
    while not (await setup.hatchet.core(run_id)).done:
        try:
            await setup.hatchet.follow(run_id, events.append)
        except BadChunk as error:
            ends.append(type(error).__name__)
    assert ends == ["BadChunk"]
    assert "bad" not in "".join(event.payload for event in events)


async def test_a_message_over_max_message_is_too_large_in_the_core_and_the_history_has_its_own_bound(
    setup: Setup,
) -> None:
    run_id = await setup.trigger("contract_large")
    await setup.done(run_id)
    small = HatchetClient(
        HatchetConfig.model_validate({"token": setup.token, "max_message": "64KiB"}), setup.env
    )
    with pytest.raises(MessageTooLarge):
        await small.core(run_id)
    state = await setup.hatchet.core(run_id)
    assert len(state.steps[0].output or "") >= 100 * 1024
    past = await setup.settled(run_id)
    assert past.status is Status.COMPLETED
    await small.close()


async def test_each_failure_of_an_engine_is_reported_and_recovered_from() -> None:
    async with Engine(SCRIPT, seed=1) as engine:
        setup = Setup(engine.env)
        run_id = await setup.trigger("contract_slow")
        await setup.hatchet.core(run_id)

        engine.faults.refuse_tokens()
        with pytest.raises(TokenRefused):
            await setup.hatchet.core(run_id)
        engine.faults.refuse_tokens(False)

        engine.faults.limit_calls(0)
        with pytest.raises(RateLimited):
            await setup.hatchet.core(run_id)
        engine.faults.limit_calls()

        engine.faults.hide_history()
        with pytest.raises(HistoryAway, match="503"):
            await setup.hatchet.past(run_id)
        engine.faults.hide_history(False)

        following = asyncio.create_task(setup.hatchet.follow(run_id, lambda event: None))
        await setup.hatchet.core(run_id)
        engine.faults.end_streams()
        await following  # OK: it says nothing about the run

        await engine.faults.stop_grpc()
        with pytest.raises(HatchetAway):
            await setup.hatchet.core(run_id)
        await engine.faults.start_grpc()
        await setup.done_or_running(run_id)
        await setup.hatchet.close()


async def test_the_steps_of_a_workflow_are_listed(setup: Setup) -> None:
    assert await setup.hatchet.workflow_steps("contract_dag") == ("one", "two", "three")
    assert await setup.hatchet.workflow_steps("contract_dag_fine") == ("one", "two", "cleanup-on-failure")
    assert await setup.hatchet.workflow_steps("contract") is None


async def test_a_finished_run_ends_its_subscription_without_an_error(setup: Setup) -> None:
    run_id = await setup.trigger("contract_task")
    await setup.settled(run_id)
    events: list[LiveEvent] = []
    try:
        await asyncio.wait_for(setup.hatchet.follow(run_id, events.append), 15)
    except HatchetError as error:
        pytest.fail(f"{error}")
    assert [event for event in events if event.step_run_id] == []
