"""npm's yaml-language-server over stdin and stdout, as an editor speaks to it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.tools import TOOLS, missing

SERVER = TOOLS / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"


class LanguageServer:
    """One process; ``async with`` starts and ends it."""

    def __init__(self, schema: Path) -> None:
        self.schema = schema
        self.number = 0
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}

    async def __aenter__(self) -> LanguageServer:
        node = shutil.which("node")
        if node is None or not SERVER.exists():
            missing("npm's yaml-language-server")
        self.process = await asyncio.create_subprocess_exec(
            str(node),
            str(SERVER),
            "--stdio",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": self.settings()})
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        await self.process.communicate()

    def settings(self) -> dict[str, Any]:
        return {
            "yaml": {
                "schemas": {self.schema.as_uri(): "*.yaml"},
                "schemaStore": {"enable": False},
                "validate": True,
                "completion": True,
                "hover": True,
            }
        }

    async def open(self, uri: str, text: str) -> list[dict[str, Any]]:
        """Opens a document; what is wrong with it."""
        self.diagnostics.pop(uri, None)
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        while uri not in self.diagnostics:
            self.handle(await self.read())
        return self.diagnostics[uri]

    async def complete(self, uri: str, line: int, character: int) -> list[str]:
        """What is offered at a place (from 0)."""
        place = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
        found = await self.ask("textDocument/completion", place)
        return [item["label"] for item in found["items"]]

    async def hover(self, uri: str, line: int, character: int) -> str:
        """What is said of a place (from 0)."""
        place = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
        return str((await self.ask("textDocument/hover", place))["contents"]["value"])

    async def ask(self, method: str, params: Any) -> Any:
        self.number += 1
        number = self.number
        self.send({"id": number, "method": method, "params": params})
        while True:
            message = await self.read()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            self.handle(message)

    def notify(self, method: str, params: Any) -> None:
        self.send({"method": method, "params": params})

    def handle(self, message: dict[str, Any]) -> None:
        """A notification or a request of the server."""
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif message.get("method") == "workspace/configuration":
            settings = self.settings()
            answer = [settings.get(item.get("section")) for item in message["params"]["items"]]
            self.send({"id": message["id"], "result": answer})
        elif "id" in message and "method" in message:
            self.send({"id": message["id"], "result": None})

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while (line := await self.process.stdout.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server ended"
        message = json.loads(await self.process.stdout.readexactly(length))
        assert isinstance(message, dict)
        return message
