"""One chaos run: an engine, replicas, many clients, faults without pause; and a table that must have zeros.

One seed gives the same runs, clients and faults in the same order. What no seed can repeat is the machine's
own timing; a failing seed usually fails again within a few tries.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from proxy.simulator import Engine
from tests.chaos.clients import Client, Manner, Target, stuck, vanished
from tests.chaos.cursors import Cursors
from tests.chaos.faults import PAUSE, Breaking, Faults
from tests.chaos.generations import Generations
from tests.chaos.log_faults import LogFaults
from tests.chaos.replicas import Replica, replicas
from tests.chaos.world import workflows
from tests.support.eventsource import Frame
from tests.support.redis_group import RedisGroup, redis_group
from tests.support.waiting import until

YAML: Final = """
version: 1
hatchet: {token: "${file:%s}"%s}
server: {linger: 1s, check_after: 2s, write_timeout: 5s, drain: {grace: 5s, spread: 1s}%s}
streams:
  all:
    path: /run/{workflowRunId}
    heartbeat: 2s
    retry: 1s
    wait_for_run: 10s
    backlog: {events: 150, keep_after_end: 5s}
    rules: &everything
      - events: ["*", step_stream]
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
  own:
    path: /message/{metadata.message_id}
    heartbeat: 2s
    retry: 1s
    wait_for_run: 30s
    backlog: {events: 40, keep_after_end: 5s}
    rules: *everything
"""
TAP: Final = (
    ", tap: {stream: 'on'}",
    "",
)  # every second proxy has one; runs that carry the pair go through it
LOG: Final = ", log: '%s', log_keep: 1m, standby: %d"
PAIRS: Final[tuple[dict[str, str], ...]] = ({"stream": "on"}, {})
CLASSES: Final = (
    "lost without a gap",
    "doubled",
    "out of order",
    "false end",
    "no verified end",
    "frames differ",
)
OLD_FAULTS: Final = 0.25  # of the faults of a piece with a shared log are those of Hatchet and the network
SILENCE: Final = 6.0  # seconds without a byte (three heartbeats) until a client connects again
MANNERS: Final = (Manner.HOPS, Manner.STAYS, Manner.WANDERS, Manner.STAYS, Manner.WANDERS)
COSTS: Final = ("stream.gap", "stream.reset")  # frames that a fault may cost
PATIENCE: Final = 120.0  # seconds that clients have after their run's end
EARLY: Final = (0.0, 2.0)  # seconds by which some clients are there before their run

KINDS: Final = ("dag", "dag", "task", "task", "quick", "broken", "backoff", "late", "slow", "wide")


@dataclass(frozen=True)
class Pace:
    """Seconds between two runs, at least and at most; the same between two faults; which runs there are."""

    runs: tuple[float, float]
    faults: tuple[float, float]
    kinds: tuple[str, ...] = KINDS


MEMORY: Final = Pace((0.2, 0.8), PAUSE)
SHARED: Final = Pace((0.8, 2.4), (1.0, 8.0))  # hopping clients cost more; the pauses show what a fault costs
SHARED_SHORT: Final = Pace((0.2, 0.8), (0.1, 1.0), ("dag", "task", "quick", "broken"))
SHORT: Final = 60.0  # seconds: a shorter piece has the last pace


@dataclass
class Report:
    """The result."""

    seed: int
    seconds: float = 0.0
    runs: int = 0
    clients: int = 0
    early: int = 0
    slow: int = 0
    stuck: int = 0
    vanished: int = 0
    replays_received: int = 0
    connections: int = 0
    frames: int = 0
    waits: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    costs: Counter[str] = field(default_factory=Counter)  # clients that were told something, by fault
    wrong: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    silence: float = 0.0
    evidence: Path | None = None  # a folder for what the clients received whose picture is wrong

    @property
    def fine(self) -> bool:
        """Whether every promise was kept."""
        return not self.wrong and not self.complaints

    def __str__(self) -> str:
        zeros = {name: sum(name in what for what in self.wrong) for name in CLASSES}
        zeros["otherwise wrong"] = len(self.wrong) - sum(zeros.values())
        rows = {
            "seed": self.seed,
            "seconds": round(self.seconds),
            "runs": self.runs,
            "clients": self.clients,
            "... there before their run": self.early,
            "... that read slowly": self.slow,
            "... that received a replay": self.replays_received,
            "... stuck": self.stuck,
            "... gone without a word": self.vanished,
            "connections": self.connections,
            "frames": self.frames,
            "waits": self.waits,
            **{f"fault: {name}": count for name, count in sorted(self.faults.items())},
            **{f"gap: {cause}": count for cause, count in sorted(self.gaps.items())},
            **{f"cost: {fault}": count for fault, count in sorted(self.costs.items())},
            "longest silence (s)": round(self.silence, 1),
            **{name.upper(): count for name, count in zeros.items()},
            "COMPLAINTS OF PROXIES": len(self.complaints),
        }
        table = "\n".join(f"{name:32} {value}" for name, value in rows.items())
        return "\n".join([table, *self.wrong[:50], *self.complaints[:5]])


async def play(
    seed: int,
    seconds: float,
    folder: Path,
    *,
    proxies: int = 2,
    clients_per_run: int = 8,
    shared_log: bool = False,
    only: str = "",
    evidence: Path | None = None,
) -> Report:
    """Break things for so long, then let everyone come to the end.

    `shared_log`: the proxies share a log on Redis, and it is what breaks most. `only`: a text that the names
    of all faults contain.
    """
    report = Report(seed, evidence=evidence)
    configs = [folder / f"streams{n}.yaml" for n in range(proxies)]
    token = folder / "token"
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        redis = None
        if shared_log:
            redis = await asyncio.to_thread(stack.enter_context, redis_group(folder))
        for n, config in enumerate(configs):
            log = "" if redis is None else LOG % (redis.url, seed % 2)
            config.write_text(YAML % (token, TAP[n % 2], log))
        engine = await stack.enter_async_context(Engine(workflows(), seed=seed))
        token.write_text(engine.token)
        env = {name: value for name, value in engine.env.items() if name != "HATCHET_CLIENT_TOKEN"}
        made = await stack.enter_async_context(replicas(configs, env, wired=True))
        world = Play(
            engine,
            made,
            report,
            token=token,
            clients=clients_per_run,
            redis=redis,
            seconds=seconds,
            only=only,
        )
        await world.play(seconds)
    report.seconds = time.monotonic() - began
    report.complaints += [what for one in made for what in one.complaints]
    if evidence is not None:
        for n, one in enumerate(made):
            (evidence / f"proxy {n}.log").write_text(one.output)
    return report


class Play:
    """One play: runs without pause, who reads them, and what breaks meanwhile."""

    def __init__(
        self,
        engine: Engine,
        made: list[Replica],
        report: Report,
        *,
        token: Path,
        clients: int,
        redis: RedisGroup | None,
        seconds: float,
        only: str = "",
    ) -> None:
        self._engine, self._made, self._report = engine, made, report
        self._rng = rng = Random(report.seed)
        self._most = clients
        self._urls = [one.url for one in made]
        self._runs: list[str] = []
        self._targets: dict[str, Target] = {}
        self._reading: list[asyncio.Task[None]] = []
        self._clients = 0
        self._began = time.monotonic()
        self._replaying = True  # until the last run has begun
        breaks = Random(rng.random())
        self._faults = Faults(engine, made, breaks, self._going, self._over, self._replay, token)
        self._log_faults = None if redis is None else LogFaults(redis, made, breaks, self._going, seconds)
        self._pace = MEMORY if redis is None else SHARED if seconds > SHORT else SHARED_SHORT
        self._breaking = self._breaks(breaks, only)
        self._cursors = Cursors()
        self._counted: set[tuple[int, int, str]] = set()  # by fault, client and what it was told
        self._generations = Generations(engine, self._faults.bad)

    def _breaks(self, rng: Random, only: str) -> Breaking:
        faults = old = self._faults.all
        if self._log_faults is not None:
            faults = self._log_faults.all
            if self._pace is SHARED and not only:
                old = [fault for fault in old if not fault[0].startswith("proxy ")]
                faults += rng.sample(old, round(len(faults) * OLD_FAULTS))
        return Breaking([fault for fault in faults if only in fault[0]], rng, self._pace.faults)

    async def play(self, seconds: float) -> None:
        """Break things for so long, then let everyone come to the end."""
        breaking = asyncio.create_task(self._breaking.play())
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            await self._run()
            await asyncio.sleep(self._rng.uniform(*self._pace.runs))
            if breaking.done():
                breaking.result()
        self._replaying = False
        await until(lambda: not self._going(), "every run is over", within=PATIENCE, every=0.1)
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
        if self._log_faults is not None:
            await self._log_faults.heal()
        await _heal(self._engine, self._made, self._faults)
        self._report.runs = len(self._runs)
        self._report.faults = self._breaking.counted
        await asyncio.wait(self._reading, timeout=PATIENCE)
        for task in self._reading:
            task.cancel()
        results = await asyncio.gather(*self._reading, return_exceptions=True)
        self._report.complaints += [repr(what) for what in results if isinstance(what, Exception)]

    def _going(self) -> list[str]:
        return [run_id for run_id in self._runs if not self._engine.run(run_id).settled]

    def _over(self) -> list[str]:
        return [run_id for run_id in self._runs if self._replaying and self._generations.over(run_id)]

    async def _run(self) -> None:
        """Trigger a run, and connect some clients to it; some of them before it exists."""
        rng = self._rng
        target = Target(f"m{len(self._runs)}")
        kind, pair = rng.choice(self._pace.kinds), rng.choice(PAIRS)
        count = rng.randint(1, self._most)
        if rng.random() < 0.15:
            self._send(target, rng, early=True)
            count -= 1
            await asyncio.sleep(rng.uniform(*EARLY))
        metadata = {**pair, "message_id": target.message}
        target.run_id = await self._engine.trigger(kind, {"seed": self._report.seed}, metadata)
        self._runs.append(target.run_id)
        self._targets[target.run_id] = target
        for _ in range(count):
            self._send(target, rng)
        if rng.random() < 0.05:
            path = f"/run/{target.run_id}"
            self._reading.append(asyncio.create_task(stuck(rng.choice(self._urls), path)))
            self._report.stuck += 1
        if rng.random() < 0.2:
            leaving = vanished(rng.choice(self._urls), f"/run/{target.run_id}", Random(rng.random()))
            self._reading.append(asyncio.create_task(leaving))
            self._report.vanished += 1

    async def _replay(self, run_id: str) -> None:
        """A replay of a run that is over, and clients that come while it goes on."""
        await self._generations.replay(run_id)
        rng = self._faults.rng
        for _ in range(rng.randint(1, 3)):
            self._send(self._targets[run_id], rng)

    def _send(self, target: Target, rng: Random, *, early: bool = False) -> None:
        self._clients += 1
        client = Client(target, self._clients, Random(rng.random()), early, noted=self._noted)
        if self._log_faults is not None:
            client.manner = MANNERS[self._clients % len(MANNERS)]
            client.silence_allowed = SILENCE
        self._report.early += early
        self._reading.append(asyncio.create_task(self._judged(client)))

    def _noted(self, client: Client, frame: Frame) -> None:
        """A client was sent a frame: what it costs, and whether others were sent the same."""
        if frame.event in COSTS:
            what = f"{frame.event} {frame.value['cause']}" if frame.event == "stream.gap" else frame.event
            breaking = self._breaking
            if (cost := (breaking.number, client.number, what)) not in self._counted:
                self._counted.add(cost)
                self._report.costs[f"{breaking.last} - {what}"] += 1
        if self._log_faults is not None and (wrong := self._cursors.note(frame)):
            self._report_wrong(client, [wrong])

    async def _judged(self, client: Client) -> None:
        report, target = self._report, client.target
        try:
            await client.read(self._urls)
        except asyncio.CancelledError:
            if not client.picture.ended:
                self._report_wrong(client, ["no verified end"])
            raise
        except Exception as error:
            self._report_wrong(client, [f"{type(error).__name__}: {error}"])
            return
        wrong, again = self._generations.judged(target.run_id, client.picture)
        self._report_wrong(client, wrong)
        report.replays_received += again
        report.clients += 1
        report.slow += client.slow
        report.frames += client.frames
        report.connections += client.connections
        report.waits += client.waits
        report.silence = max(report.silence, client.silence)
        report.gaps.update(gap["cause"] for gap in client.picture.gaps)

    def _report_wrong(self, client: Client, wrong: list[str]) -> None:
        run_id, evidence = client.target.run_id, self._report.evidence
        kind = self._engine.run(run_id).workflow.name if run_id else "never triggered"
        name = f"{kind} {run_id[:8]}"
        if wrong and evidence is not None:
            received = "".join(f"{frame.id} {frame.event} {frame.data[:200]}\n" for frame in client.received)
            (evidence / f"{name} {client.number}.txt").write_text("\n".join([*wrong, received]))
        self._report.wrong += [f"{name} #{client.number}: {what}" for what in wrong]
        for what in wrong:
            since = round(time.monotonic() - self._began)
            print(f"seed {self._report.seed}, {since} s, {self._breaking.last}: {name}: {what}", flush=True)


async def _heal(engine: Engine, made: list[Replica], faults: Faults) -> None:
    """A fault may have been stopped half-way."""
    engine.faults.mute(False)
    engine.faults.refuse_tokens(False)
    engine.faults.limit_calls()
    engine.faults.hide_history(False)
    engine.faults.lag_history()
    engine.faults.jump_clock()
    engine.switch(lifecycle_events=True)
    await engine.faults.start_grpc()
    engine.gate.admit(faults.token.read_text(), engine.core.tenants[0])
    for one in made:
        for wire in one.wires:
            wire.cut()
        await one.recover()
