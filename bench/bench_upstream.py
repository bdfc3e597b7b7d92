"""The cost of an event from an HTTP/2 connection's bytes to the backlog, in one process without sockets.

    python bench/bench_upstream.py [EVENTS] [--runs 200] [--profile FILE]

W6's events (1 KB of JSON, five rules, a mapping of six expressions) of `--runs` runs in turn, eight events
per read, as a connection delivers them. Measured are `Http2`, the translation, the run's order, the kept
events, the rules, the frame and the backlog. Compared with the whole process, socket reads and turns of the
loop are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from typing import Any

import yaml
from works import FIVE_RULES, ORDER

from config.model.files import RuleConfig, StreamConfig
from proxy.core.observations import CoreState, CoreStep, LiveEvent, Status
from proxy.hatchet import codec, protobuf
from proxy.hatchet.errors import HatchetAway
from proxy.hatchet.grpc import frames
from proxy.hatchet.grpc.call import Call
from proxy.hatchet.grpc.http2 import Http2
from proxy.observability.counters import TeamCounters
from proxy.rules.ruleset import Rules
from proxy.runs.follower import RunFollower
from proxy.streams.backlog import Backlog
from proxy.streams.retained import RetainedItem
from proxy.streams.run_session import RunSession
from proxy.streams.stream import LiveStream

pb = protobuf.dispatcher_pb2
BATCH = 8  # events per read: at 4,000 events a second, one read every 2 ms


class Upstream:
    """A fake Hatchet that keeps the `deliver` function of each subscription."""

    has_history = False

    def __init__(self) -> None:
        self.deliver: dict[str, Callable[[LiveEvent], None]] = {}

    async def follow(self, run_id: str, deliver: Any, opened: Any = None) -> None:
        await asyncio.Event().wait()

    async def follow_metadata(self, key: str, value: str, deliver: Any, opened: Any = None) -> None:
        self.deliver[value] = deliver
        opened()
        await asyncio.Event().wait()

    async def core(self, run_id: str) -> CoreState:
        step = CoreStep("feed", _step(run_id), Status.RUNNING)
        return CoreState(run_id, Status.RUNNING, False, (step,), {"traceparent": run_id})

    async def past(self, run_id: str) -> None:
        raise HatchetAway("there is no history")

    async def keep_open(self, step_run_id: str) -> None:
        return None

    async def check_history(self) -> None:
        raise NotImplementedError

    async def find(self, key: str, value: str) -> None:
        return None

    async def close(self) -> None:
        return None


def _step(run_id: str) -> str:
    return "2" * 8 + run_id[8:]


async def prepared(runs: int) -> tuple[Http2, list[str], list[RunSession]]:
    """A connection with one call per run; each run has one stream."""
    rules = tuple(
        RuleConfig(**{**rule, "name": f"rules[{n}]", "events": _listed(rule["events"]), **_steps(rule)})
        for n, rule in enumerate(yaml.safe_load(FIVE_RULES)["rules"])
    )
    config = StreamConfig(name="chunks", path="/{workflowRunId}", rules=rules)
    stream = LiveStream(config, Rules(config), None, None)  # type: ignore[arg-type]
    upstream, counts = Upstream(), TeamCounters()
    counted = [0]

    def grew(delta: int) -> None:
        counted[0] += delta

    http2 = Http2(4 << 20)
    http2.ready = True
    ids, sessions = [], []
    for number in range(runs):
        run_id = f"1111{number:04d}-1111-4111-8111-111111111111"
        session = RunSession(
            run_id, team="t", number=1, secret=b"s" * 32, upstream=upstream, counts=counts,
            retained=Backlog[RetainedItem](1000, 1 << 20, grew), grew=grew, ended=lambda _: None,
        )  # fmt: skip
        session.begin(RunFollower(run_id, upstream, publish=session.publish))
        await session.first_state(1.0)
        await session.open(stream)
        translate = codec.live_event
        while run_id not in upstream.deliver:
            await asyncio.sleep(0)
        deliver = upstream.deliver[run_id]
        deliver(translate(_event(run_id, None)))
        call = Call(_into(translate, deliver), lambda *_: None)
        http2.begin(((":method", "POST"),), b"", call)
        ids.append(run_id)
        sessions.append(session)
    return http2, ids, sessions


def _into(translate: Any, deliver: Any) -> Callable[[bytes], None]:
    return lambda message: deliver(translate(message))


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _steps(rule: dict[str, Any]) -> dict[str, Any]:
    return {"steps": _listed(rule["steps"])} if "steps" in rule else {}


def _event(run_id: str, index: int | None) -> bytes:
    event = pb.WorkflowEvent(
        workflow_run_id=run_id,
        resource_type=pb.RESOURCE_TYPE_STEP_RUN,
        resource_id=_step(run_id),
        event_type=pb.RESOURCE_EVENT_TYPE_STARTED,
        retry_count=0,
    )
    event.event_timestamp.GetCurrentTime()
    if index is not None:
        event.event_type = pb.RESOURCE_EVENT_TYPE_STREAM
        event.event_payload = f'{{"n":{index},"t":{time.monotonic_ns()},{ORDER[1:]}'
        event.event_index = index
        event.ClearField("retry_count")
    return bytes(event.SerializeToString())


def reads(ids: list[str], events: int, begun: int) -> list[bytes]:
    """The next `events` events of all runs, in turn, as a connection's reads."""
    messages = []
    for number in range(events):
        index, run = divmod(begun + number, len(ids))
        message = _event(ids[run], index)
        body = frames.MESSAGE.pack(0, len(message)) + message
        messages.append(frames.frame(frames.DATA, 0, 2 * run + 1, body))
    return [b"".join(messages[at : at + BATCH]) for at in range(0, events, BATCH)]


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("events", nargs="?", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--profile", action="store_true", help="print the functions that take the most time")
    given = parser.parse_args()
    http2, ids, sessions = await prepared(given.runs)
    taken, begun = [], 0
    profile = cProfile.Profile()
    for _ in range(given.rounds):
        data = reads(ids, given.events, begun)
        begun += given.events
        if given.profile:
            profile.enable()
        start = time.process_time()
        for read in data:
            http2.receive(read)
            http2.take()
        taken.append((time.process_time() - start) / given.events * 1e6)
        profile.disable()
    frames_made = sum(channel.backlog.last for session in sessions for channel in session.channels)
    assert frames_made >= begun, f"{frames_made} frames of {begun} events"
    print(
        f"{statistics.median(taken):.1f} µs per event ({min(taken):.1f}-{max(taken):.1f}), {given.runs} runs"
    )
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    for session in sessions:
        session.drop()
        await session.run.close()


if __name__ == "__main__":
    asyncio.run(main())
