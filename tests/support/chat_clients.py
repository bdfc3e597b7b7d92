"""The real clients of the chat protocols, from npm: one node process reads any number of streams."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tests.support.tools import ROOT, TOOLS, missing, need

PACKAGES: Final = TOOLS / "frontends" / "node_modules"
SCRIPTS: Final = ROOT / "tests" / "e2e" / "js" / "frontends"


def need_packages() -> Path:
    """The folder with the packages of the front ends."""
    if not (PACKAGES / "ai").is_dir():
        missing("npm's ai")
    return PACKAGES


def need_front_ends(folder: Path) -> Path:
    """A folder with the scripts, in which node finds the packages of the front ends."""
    need_packages()
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(PACKAGES)
    return folder


async def read_with_openai(url: str) -> dict[str, Any]:
    """What the `openai` package of PyPI has of the stream at `url` in the end, as its package from npm."""
    try:
        openai, chat = import_module("openai"), import_module("openai.types.chat")
    except ImportError:
        missing("PyPI's openai")
    base, _, path = url.rpartition("/")
    found: dict[str, Any] = {"content": "", "roles": [], "reasons": []}
    async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
        chunks = openai.AsyncStream[chat.ChatCompletionChunk]
        async for chunk in await client.get(
            path, cast_to=chat.ChatCompletionChunk, stream=True, stream_cls=chunks
        ):
            (choice,) = chunk.choices
            found["content"] += choice.delta.content or ""
            found["roles"] += [choice.delta.role] if choice.delta.role else []
            found["reasons"] += [choice.finish_reason] if choice.finish_reason else []
    return found


class FrontEnds:
    """A node process with the clients loaded, so that a client can begin at a given moment."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Wait until the clients are loaded."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line == b"ready\n", line
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if not line.startswith(b"{"):
                continue  # a client's warning
            found = json.loads(line)
            self._waiting.pop(found["id"]).set_result(found)
        for answer in self._waiting.values():
            answer.set_exception(AssertionError("the clients' process has ended"))

    async def read(self, client: str, url: str, **more: Any) -> dict[str, Any]:
        """What a client has of the stream at `url` in the end.

        From npm: ai5, ai6, ai700, ai7, ag-ui, openai, text (fetch). From PyPI: openai-python.
        """
        if client == "openai-python":
            return await read_with_openai(url)
        number = len(self._waiting) + 1
        while number in self._waiting:
            number += 1
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"id": number, "client": client, "url": url, **more}).encode() + b"\n"
        )
        await self._process.stdin.drain()
        found: dict[str, Any] = await answer
        return found

    async def close(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._reader is not None:
            await self._reader


@asynccontextmanager
async def front_ends(folder: Path) -> AsyncIterator[FrontEnds]:
    """The clients, loaded."""
    script = need_front_ends(folder) / "clients.mjs"
    process = await asyncio.create_subprocess_exec(
        need("node"),
        str(script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    clients = FrontEnds(process)
    try:
        await clients.ready()
        yield clients
    finally:
        await clients.close()
