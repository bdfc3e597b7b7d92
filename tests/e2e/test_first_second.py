"""The first second and the mid-step join, over HTTP, by the clock: embedded with all quirks, and a real one.

A delay is the time from the sending of a chunk (or the connect, if that was later) to its arrival.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.test_run_engines import Place, place, worker
from tests.support.delivering import Ear, chunks, config, yaml
from tests.support.served import served

__all__ = ["place", "worker"]  # fixtures: embedded always, real where HATCHET_CLIENT_TOKEN is set

UNPROVEN_TAIL: Final = "upstream"  # the hangup came so soon after the end that nothing proves the last chunk
PROMISED: Final = 0.5  # seconds


def delays(ear: Ear, joined: float) -> list[float]:
    """Of each chunk; one machine, one clock."""
    found = []
    for at, frame in zip(ear.times, ear.frames, strict=True):
        for event in chunks([frame]):
            sent = datetime.fromisoformat(event["at"][:26].rstrip("Z") + "+00:00").timestamp()
            found.append(at - max(sent - time.time() + time.monotonic(), joined))
    return found


async def heard(place: Place, folder: Path, workflow: str, after: float) -> tuple[Ear, list[float]]:
    """What a client received that connected `after` seconds after the trigger, and each chunk's delay."""
    env = place.env
    async with served(config(folder, yaml()), env) as proxy:
        run = await place.trigger(workflow)
        await asyncio.sleep(after)
        joined = time.monotonic()
        async with Ear(f"{proxy.url}/run/{run}") as ear:
            await ear.end(55)
    found = delays(ear, joined)
    print(f"{workflow} after {after} s: {len(found)} chunks, the slowest after {max(found):.3f} s")
    return ear, found


@pytest.mark.parametrize("after", [0.0, 0.05])
async def test_a_client_50_ms_after_the_trigger_gets_each_token_as_it_is_sent(
    place: Place, tmp_path: Path, after: float
) -> None:
    ear, found = await heard(place, tmp_path, "contract_slow", after)
    assert max(found) < PROMISED
    assert len(found) >= 75, "of 80; chunks from before the connect are announced"
    assert len(found) == 80 or ear.gaps
    assert ear.picture.wrong == []


async def test_a_client_that_joins_in_mid_step_gets_the_next_token_at_once(
    place: Place, tmp_path: Path
) -> None:
    ear, found = await heard(place, tmp_path, "contract_slow", 2.0)
    assert max(found) < PROMISED
    assert [gap["cause"] for gap in ear.gaps] in (["joined_late"], ["joined_late", UNPROVEN_TAIL])
    indices = [event["index"] for event in ear.chunks]
    assert ear.gaps[0]["missed"] == indices[0]
    assert indices == list(range(indices[0], 80)), "nothing is missing after that"


async def test_across_a_retry_no_token_is_held_back(place: Place, tmp_path: Path) -> None:
    ear, found = await heard(place, tmp_path, "contract_dag_retry", 0.2)
    assert max(found) < PROMISED
    second = [event["index"] for event in ear.chunks if event["attempt"] == 2]
    assert second == [0, 1, 2] or [gap for gap in ear.gaps if gap["attempt"] == 2]
    assert {"step": "two", "attempt": 2} in [f.value for f in ear.frames if f.event == "stream.reset"]
    assert ear.picture.wrong == []
