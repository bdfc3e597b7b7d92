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

from tests.e2e.test_run_engines import Setup, setup, worker
from tests.support.delivery import RecordingClient, chunks, config, yaml
from tests.support.served import served

__all__ = ["setup", "worker"]  # fixtures: embedded always, real where HATCHET_CLIENT_TOKEN is set

UNPROVEN_TAIL: Final = "upstream"  # the hangup came so soon after the end that nothing proves the last chunk
PROMISED: Final = 0.5  # seconds


def delays(client: RecordingClient, joined: float) -> list[float]:
    """Of each chunk; one machine, one clock."""
    found = []
    for at, frame in zip(client.times, client.frames, strict=True):
        for event in chunks([frame]):
            sent = datetime.fromisoformat(event["at"][:26].rstrip("Z") + "+00:00").timestamp()
            found.append(at - max(sent - time.time() + time.monotonic(), joined))
    return found


async def record(
    setup: Setup, folder: Path, workflow: str, after: float
) -> tuple[RecordingClient, list[float]]:
    """What a client received that connected `after` seconds after the trigger, and each chunk's delay."""
    env = setup.env
    async with served(config(folder, yaml()), env) as proxy:
        run = await setup.trigger(workflow)
        await asyncio.sleep(after)
        joined = time.monotonic()
        async with RecordingClient(f"{proxy.url}/run/{run}") as client:
            await client.end(55)
    found = delays(client, joined)
    print(f"{workflow} after {after} s: {len(found)} chunks, the slowest after {max(found):.3f} s")
    return client, found


@pytest.mark.parametrize("after", [0.0, 0.05])
async def test_a_client_50_ms_after_the_trigger_gets_each_token_as_it_is_sent(
    setup: Setup, tmp_path: Path, after: float
) -> None:
    client, found = await record(setup, tmp_path, "contract_slow", after)
    assert max(found) < PROMISED
    assert len(found) >= 75, "of 80; chunks from before the connect are announced"
    assert len(found) == 80 or client.gaps
    assert client.picture.wrong == []


async def test_a_client_that_joins_in_mid_step_gets_the_next_token_at_once(
    setup: Setup, tmp_path: Path
) -> None:
    client, found = await record(setup, tmp_path, "contract_slow", 2.0)
    assert max(found) < PROMISED
    assert [gap["cause"] for gap in client.gaps] in (["joined_late"], ["joined_late", UNPROVEN_TAIL])
    indices = [event["index"] for event in client.chunks]
    assert client.gaps[0]["missed"] == indices[0]
    assert indices == list(range(indices[0], 80)), "nothing is missing after that"


async def test_across_a_retry_no_token_is_held_back(setup: Setup, tmp_path: Path) -> None:
    client, found = await record(setup, tmp_path, "contract_dag_retry", 0.2)
    assert max(found) < PROMISED
    second = [event["index"] for event in client.chunks if event["attempt"] == 2]
    assert second == [0, 1, 2] or [gap for gap in client.gaps if gap["attempt"] == 2]
    assert {"step": "two", "attempt": 2} in [f.value for f in client.frames if f.event == "stream.reset"]
    assert client.picture.wrong == []
