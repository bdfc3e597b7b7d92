"""hatchet-sdk, unchanged, on the embedded engine: it triggers, subscribes, reads results, cancels, replays.

In a process of its own, as an application would be: the SDK blocks, keeps threads, and warns at import.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from proxy.simulator import Engine

SCRIPT = Path(__file__).parent.parent / "support" / "contract.yaml"
QUIRKS = {"five_second_hold": False, "early_subscription_waits": False, "false_end_of_dag": False}

APPLICATION = """
import asyncio, json, warnings
warnings.simplefilter("ignore")
from hatchet_sdk import Hatchet, TriggerWorkflowOptions
from hatchet_sdk.clients.rest.exceptions import NotFoundException
from hatchet_sdk.exceptions import FailedTaskRunExceptionGroup

hatchet = Hatchet()
results = {}

def workflow(name, *steps):
    made = hatchet.workflow(name=name)
    for step in steps:
        made.task(name=step)(lambda input, ctx: None)
    return made

async def becomes(run_id, read, wanted):
    # The last value that was read: the one that was awaited, or what stood there after ten seconds.
    for _ in range(100):
        try:
            found = read(await hatchet.runs.aio_get(run_id))
        except NotFoundException:
            found = None  # the history does not know the run yet
        if found == wanted:
            break
        await asyncio.sleep(0.1)
    return found

async def main():
    task = workflow("contract_task", "contract_task")
    results["aio_run"] = await task.aio_run()
    ref = await task.aio_run(wait_for_result=False)
    results["stream"] = [chunk async for chunk in hatchet.runs.subscribe_to_stream(ref.workflow_run_id)]
    results["aio_result"] = await ref.aio_result()
    many = [task.create_bulk_run_item() for _ in range(3)]
    results["bulk"] = await task.aio_run_many(many)
    fails = workflow("contract_fails", "contract_fails")
    try:
        await fails.aio_run()
    except FailedTaskRunExceptionGroup as failed:
        results["failed"] = [str(one.exc) for one in failed.exceptions]
    slow = await workflow("contract_slow", "contract_slow").aio_run(wait_for_result=False)
    await becomes(slow.workflow_run_id, lambda run: run.run.status.value, "RUNNING")
    await hatchet.runs.aio_cancel(slow.workflow_run_id)
    results["cancelled"] = await becomes(slow.workflow_run_id, lambda run: run.run.status.value, "CANCELLED")
    await hatchet.runs.aio_replay(slow.workflow_run_id)
    results["replayed"] = await becomes(slow.workflow_run_id, lambda run: run.tasks[0].retry_count, 1)
    found = await hatchet.runs.aio_list(additional_metadata={"mine": "yes"})
    results["list"] = [row.status.value for row in found.rows]

def plain():
    task = workflow("contract_task", "contract_task")
    results["run"] = task.run(additional_metadata={"mine": "yes"})
    ref = task.run(wait_for_result=False)
    results["result"] = ref.result()
    results["details"] = hatchet.runs.get_details(ref.workflow_run_id).status.value

plain()
asyncio.run(main())
print(json.dumps(results, default=str))
"""


async def application(env: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        APPLICATION,
        env={"PATH": "/usr/bin:/bin", **env},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()[-2000:]
    results: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
    return results


async def test_hatchet_sdk_works_with_the_embedded_engine(tmp_path: Path) -> None:
    async with Engine(SCRIPT, quirks=QUIRKS, seed=3) as engine:
        results = await application(engine.env, tmp_path)
    assert results["run"] == {"contract_task": {"fine": True}}
    assert results["result"] == {"contract_task": {"fine": True}}
    assert results["details"] == "COMPLETED"
    assert results["aio_run"] == {"contract_task": {"fine": True}}
    assert results["stream"] == ["a", "b"]
    assert results["aio_result"] == {"contract_task": {"fine": True}}
    assert results["bulk"] == [{"contract_task": {"fine": True}}] * 3
    assert results["failed"] == ["never works"]
    assert results["cancelled"] == "CANCELLED"
    assert results["replayed"] == 1
    assert results["list"] == ["COMPLETED"]
