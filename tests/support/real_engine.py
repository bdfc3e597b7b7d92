"""A worker on a real engine, as a process: when it takes runs, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from proxy.simulator.recordings.client import Client
from tests.support.contract import is_done
from tests.support.waiting import until

ROOT: Final = Path(__file__).parent.parent.parent
STARTS: Final = 80.0  # seconds: the SDK is imported twice, one time after the other
LOOK: Final = 0.05  # seconds between two looks at what has no event


class RealWorker:
    """A hatchet-sdk worker that runs; `takes_runs` says when the engine gives it runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._takes_runs = False

    async def takes_runs(self, client: Client, workflow: str) -> None:
        """Wait until it has done a run of `workflow`, the first time that it is called.

        hatchet-sdk 1.43 writes "waiting for tasks" when it has registered its workflows. Only then it starts
        a process that registers the worker and receives runs, and that process imports the SDK again: some
        10 s on a busy machine. Raises AssertionError if the worker ends, or does no run within STARTS.
        """
        if self._takes_runs:
            return
        await until(self._waits_for_tasks, "the worker registers its workflows", within=STARTS, every=LOOK)
        run_id = await client.trigger(workflow)

        await until(lambda: is_done(client, run_id), f"a run of {workflow}", within=STARTS, every=LOOK)
        self._takes_runs = True

    def _waits_for_tasks(self) -> bool:
        text = self._log.read_text()
        assert self._process.poll() is None, text[-2000:]
        return "waiting for tasks" in text


@contextmanager
def run_worker(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[RealWorker]:
    """Run a worker that writes to `log`; it is ended at the end."""
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=env) as process,
    ):
        try:
            yield RealWorker(process, log)
        finally:
            process.terminate()


def contract_worker(script: Path) -> list[str]:
    """The command of a worker with the workflows of a script of the embedded engine."""
    return [sys.executable, "-m", "tests.support.real_worker", str(script)]
