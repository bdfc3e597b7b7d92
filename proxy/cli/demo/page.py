"""The demo's routes: the page, its files and the actions of its buttons on the engine.

Every other request is passed to the proxy's application, so the page and the streams have one origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, Router

from proxy.simulator import Engine
from proxy.simulator.state.runs import UnknownWorkflow

App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Awaitable[None],
]

HERE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = HERE.parent.parent.parent

OUTAGE: Final = 4.0  # seconds: long enough to see the page wait and then continue
MAX_BODY: Final = 10_000  # bytes; the body of a trigger has about fifty

METADATA: Final = {"origin": "demo page", "stream": "on"}
"""The metadata of each run that a button triggers; the second pair is the tap's in streams.example.yaml."""

FILES: Final = {
    "/": ("index.html", "text/html"),
    "/demo/page.css": ("page.css", "text/css"),
    "/demo/page.js": ("page.js", "text/javascript"),
    "/demo/notices.js": ("notices.js", "text/javascript"),
}


def example() -> Path:
    """streams.example.yaml: in a checkout the repository's, else the wheel's."""
    return _beside_or("streams.example.yaml", CHECKOUT / "streams.example.yaml")


def client() -> Path:
    """stream-proxy.js: in a checkout the repository's, else the wheel's."""
    return _beside_or("stream-proxy.js", CHECKOUT / "clients" / "js" / "stream-proxy.js")


def _beside_or(name: str, elsewhere: Path) -> Path:
    beside = HERE / name
    return beside if beside.is_file() else elsewhere


def with_page(rest: App, engine: Engine, config: Path) -> Router:
    """An application that serves the page and passes every other request to `rest`."""
    files = {path: (HERE / name, kind) for path, (name, kind) in FILES.items()}
    files["/demo/stream-proxy.js"] = (client(), "text/javascript")
    files["/demo/streams.yaml"] = (config, "text/plain")
    buttons = Buttons(engine)
    return Router(
        [
            *(Route(path, _file(*file)) for path, file in files.items()),
            Route("/demo/runs", buttons.run, methods=["POST"]),
            Route("/demo/outage", buttons.outage, methods=["POST"]),
        ],
        redirect_slashes=False,
        default=rest,
    )


def _file(path: Path, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return FileResponse(path, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


class Buttons:
    """The actions of the page's buttons on the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def run(self, request: Request) -> Response:
        """Trigger a run: ``{"workflow": "chat", "input": …}``; answers 201 ``{"run_id": …}``."""
        try:
            asked = orjson.loads(await _body(request))
            workflow, given = asked["workflow"], asked.get("input", {})
            run_id = await self._engine.trigger(workflow, given, METADATA)
        except (ValueError, KeyError, TypeError, AttributeError, UnknownWorkflow):
            return JSONResponse({"detail": "name one of the demo's workflows: chat, flaky, broken"}, 400)
        return JSONResponse({"run_id": run_id}, 201)

    async def outage(self, request: Request) -> Response:
        """Make the engine unreachable for `OUTAGE` seconds."""
        await self._engine.faults.outage(OUTAGE)
        return JSONResponse({"seconds": OUTAGE}, 202)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise ValueError("too large")
    return body
