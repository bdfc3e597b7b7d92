"""Some proxies side by side, each a process of its own, with a network of its own between it and Hatchet."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from tests.support.processes import Running, answers, free_port, running
from tests.support.relay import Relay, relay


class Replica:
    """One proxy of several, always on the same port."""

    def __init__(self, config: Path, env: Mapping[str, str], wires: Sequence[Relay] = ()) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wires = wires
        self._config, self._env = config, env
        self._stack = contextlib.AsyncExitStack()
        self.process: Running | None = None
        self.complaints: list[str] = []

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        serve = running("serve", "--config", self._config, "--port", str(self.port), env=self._env)
        self.process = await self._stack.enter_async_context(serve)
        await answers(self.url)

    async def stop(self, *, kill: bool) -> None:
        """SIGKILL, or SIGTERM and wait."""
        assert self.process is not None
        if kill:
            self.process.process.kill()
            await self.process.ended()
        else:
            status = await self.process.stop()
            if status != 0:
                self.complaints.append(f"exit status {status} after SIGTERM")
        if "Traceback" in self.process.said or "unexpected error" in self.process.said:
            self.complaints.append(self.process.said[-2000:])
        await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()


@contextlib.asynccontextmanager
async def replicas(
    configs: Sequence[Path], env: Mapping[str, str], *, wired: bool = False
) -> AsyncIterator[list[Replica]]:
    """A proxy for each configuration, side by side; `wired`: each reaches Hatchet over relays of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for config in configs:
            wires: list[Relay] = []
            mine = dict(env)
            if wired:
                address = mine["HATCHET_CLIENT_HOST_PORT"], mine["HATCHET_CLIENT_SERVER_URL"]
                wires = [await stack.enter_async_context(relay(int(at.rpartition(":")[2]))) for at in address]
                mine["HATCHET_CLIENT_HOST_PORT"] = f"127.0.0.1:{wires[0].port}"
                mine["HATCHET_CLIENT_SERVER_URL"] = f"http://127.0.0.1:{wires[1].port}"
            made.append(Replica(config, mine, wires))
        for one in made:
            await one.start()
        try:
            yield made
        finally:
            for one in made:
                await one.stop(kill=False)
