"""sse-starlette: its EventSourceResponse on a Starlette route, with a queue and JSON encoding per client.

python bench/servers/sse_starlette_way.py PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from lines import listen
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

PORT, FEED = int(sys.argv[1]), int(sys.argv[2])
listeners: dict[int, set[asyncio.Queue[Any]]] = defaultdict(set)


def publish(run: int, text: bytes) -> None:
    event = json.loads(text)
    for queue in listeners[run]:
        queue.put_nowait(event)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    server = await listen(FEED, publish)
    yield
    server.close()


async def stream(request: Request) -> EventSourceResponse:
    run = int(request.path_params["run"])

    async def events() -> AsyncIterator[dict[str, str]]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        listeners[run].add(queue)
        try:
            while True:
                yield {"data": json.dumps(await queue.get())}
        finally:
            listeners[run].discard(queue)

    return EventSourceResponse(events(), ping=int(sys.argv[3]) if len(sys.argv) > 3 else 15)


app = Starlette(routes=[Route("/sse/{run}", stream)], lifespan=lifespan)
uvicorn.run(app, port=PORT, log_level="warning", access_log=False, backlog=4096)
