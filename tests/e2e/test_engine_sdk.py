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
said = {}

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
    said["aio_run"] = await task.aio_run()
    ref = await task.aio_run(wait_for_result=False)
    said["stream"] = [chunk async for chunk in hatchet.runs.subscribe_to_stream(ref.workflow_run_id)]
    said["aio_result"] = await ref.aio_result()
    many = [task.create_bulk_run_item() for _ in range(3)]
    said["bulk"] = await task.aio_run_many(many)
    fails = workflow("contract_fails", "contract_fails")
    try:
        await fails.aio_run()
    except FailedTaskRunExceptionGroup as failed:
        said["failed"] = [str(one.exc) for one in failed.exceptions]
    slow = await workflow("contract_slow", "contract_slow").aio_run(wait_for_result=False)
    await becomes(slow.workflow_run_id, lambda run: run.run.status.value, "RUNNING")
    await hatchet.runs.aio_cancel(slow.workflow_run_id)
    said["cancelled"] = await becomes(slow.workflow_run_id, lambda run: run.run.status.value, "CANCELLED")
    await hatchet.runs.aio_replay(slow.workflow_run_id)
    said["replayed"] = await becomes(slow.workflow_run_id, lambda run: run.tasks[0].retry_count, 1)
    found = await hatchet.runs.aio_list(additional_metadata={"mine": "yes"})
    said["list"] = [row.status.value for row in found.rows]

def plain():
    task = workflow("contract_task", "contract_task")
    said["run"] = task.run(additional_metadata={"mine": "yes"})
    ref = task.run(wait_for_result=False)
    said["result"] = ref.result()
    said["details"] = hatchet.runs.get_details(ref.workflow_run_id).status.value

plain()
asyncio.run(main())
print(json.dumps(said, default=str))
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
    said: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
    return said


async def test_hatchet_sdk_works_with_the_embedded_engine(tmp_path: Path) -> None:
    async with Engine(SCRIPT, quirks=QUIRKS, seed=3) as engine:
        said = await application(engine.env, tmp_path)
    assert said["run"] == {"contract_task": {"fine": True}}
    assert said["result"] == {"contract_task": {"fine": True}}
    assert said["details"] == "COMPLETED"
    assert said["aio_run"] == {"contract_task": {"fine": True}}
    assert said["stream"] == ["a", "b"]
    assert said["aio_result"] == {"contract_task": {"fine": True}}
    assert said["bulk"] == [{"contract_task": {"fine": True}}] * 3
    assert said["failed"] == ["never works"]
    assert said["cancelled"] == "CANCELLED"
    assert said["replayed"] == 1
    assert said["list"] == ["COMPLETED"]
