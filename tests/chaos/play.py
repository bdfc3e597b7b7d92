"""The whole: an engine, some replicas, many clients, faults without pause; and a table that must have zeros.

One seed gives the same runs, clients and faults in the same order. What no seed can repeat is the machine's
own timing; a failing seed usually fails again within a few tries.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from proxy.simulator import Engine
from tests.chaos.clients import Client
from tests.chaos.faults import Bad, Faults, Replica, replicas
from tests.chaos.world import excused, truth, workflows
from tests.reference import judge

YAML: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}"%s}
server: {linger: 1s, check_after: 2s, drain: {grace: 5s, spread: 1s}}
streams:
  all:
    path: /run/{workflowRunId}
    heartbeat: 2s
    retry: 1s
    wait_for_run: 10s
    backlog: {events: 150, keep_after_end: 5s}
    rules:
      - events: "*"
        data: {type: type, step: step, attempt: attempt, index: index, payload: payload, recovered: recovered}
"""
TAP: Final = (
    ", tap: {stream: 'on'}",
    "",
)  # every second proxy has one; runs that carry the pair go through it
PAIRS: Final[tuple[dict[str, str], ...]] = ({"stream": "on"}, {})
CLASSES: Final = ("lost unsaid", "doubled", "out of order", "false end", "no verified end")
BETWEEN: Final = (0.2, 0.8)  # seconds between two runs
PATIENCE: Final = 60.0  # seconds that clients have after their run's end
KINDS: Final = ("dag", "dag", "task", "task", "quick", "broken", "backoff", "slow")


@dataclass
class Report:
    """What came of it."""

    seed: int
    seconds: float = 0.0
    runs: int = 0
    clients: int = 0
    connections: int = 0
    frames: int = 0
    waits: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    silence: float = 0.0
    evidence: Path | None = None  # a folder for what the clients heard that were told wrong

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
            "connections": self.connections,
            "frames": self.frames,
            "waits": self.waits,
            **{f"fault: {name}": count for name, count in sorted(self.faults.items())},
            **{f"gap: {cause}": count for cause, count in sorted(self.gaps.items())},
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
    evidence: Path | None = None,
) -> Report:
    """Break things for so long, then let everyone come to the end."""
    dice = Random(seed)
    report = Report(seed, evidence=evidence)
    configs = [folder / f"streams{n}.yaml" for n in range(proxies)]
    for n, config in enumerate(configs):
        config.write_text(YAML % TAP[n % 2])
    began = time.monotonic()
    async with Engine(workflows(), seed=seed) as engine, replicas(configs, engine.env) as made:
        await _play(engine, made, dice, report, seconds=seconds, clients_per_run=clients_per_run)
    report.seconds = time.monotonic() - began
    report.complaints = [what for one in made for what in one.complaints]
    return report


async def _play(
    engine: Engine, made: list[Replica], dice: Random, report: Report, *, seconds: float, clients_per_run: int
) -> None:
    urls = [one.url for one in made]
    runs: list[str] = []

    def going() -> list[str]:
        return [run_id for run_id in runs if not engine.run(run_id).settled]

    faults = Faults(engine, made, Random(dice.random()), going)
    breaking = asyncio.create_task(faults.play())
    reading: list[asyncio.Task[None]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run_id = await engine.trigger(dice.choice(KINDS), {"seed": report.seed}, dice.choice(PAIRS))
        runs.append(run_id)
        for _ in range(dice.randint(1, clients_per_run)):
            client = Client(run_id, len(reading), Random(dice.random()))
            reading.append(asyncio.create_task(_judged(engine, client, urls, report, faults.bad)))
        await asyncio.sleep(dice.uniform(*BETWEEN))
        if breaking.done():
            breaking.result()
    async with asyncio.timeout(PATIENCE):
        while going():
            await asyncio.sleep(0.1)
    breaking.cancel()
    await asyncio.gather(breaking, return_exceptions=True)
    await _heal(engine, made)
    report.runs = len(runs)
    report.faults = faults.counted
    await asyncio.wait(reading, timeout=PATIENCE)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


async def _heal(engine: Engine, made: list[Replica]) -> None:
    """A fault may have been stopped half-way."""
    engine.mute(False)
    engine.refuse_tokens(False)
    engine.limit_calls()
    engine.hide_history(False)
    engine.switch(lifecycle_events=True)
    await engine.come_back()
    for one in made:
        if one.process is None or one.process.process.returncode is not None:
            await one.start()


async def _judged(engine: Engine, client: Client, urls: list[str], report: Report, bad: Bad) -> None:
    try:
        await client.read(urls)
    except asyncio.CancelledError:
        if not client.picture.ended:
            report.wrong.append(f"{_name(engine, client)}: no verified end")
        raise
    except Exception as error:
        report.wrong.append(f"{_name(engine, client)}: {type(error).__name__}: {error}")
        return
    wrong = judge(client.picture, truth(engine, client.run_id, bad))
    wrong = [what for what in wrong if not excused(engine, client.run_id, what)]
    if wrong and report.evidence is not None:
        heard = "".join(f"{frame.id} {frame.event} {frame.data}\n" for frame in client.heard)
        (report.evidence / f"{_name(engine, client)} {client.number}.txt").write_text(
            "\n".join([*wrong, heard])
        )
    report.wrong += [f"{_name(engine, client)}: {what}" for what in wrong]
    report.clients += 1
    report.frames += client.frames
    report.connections += client.connections
    report.waits += client.waits
    report.silence = max(report.silence, client.silence)
    report.gaps.update(gap["cause"] for gap in client.picture.gaps)


def _name(engine: Engine, client: Client) -> str:
    return f"{engine.run(client.run_id).workflow.name} {client.run_id[:8]}"
