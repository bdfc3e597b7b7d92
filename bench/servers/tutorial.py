"""The way of the tutorials: FastAPI with a queue and JSON encoding per client.

python bench/servers/tutorial.py PORT FEED_PORT
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
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from lines import listen

PORT, FEED = int(sys.argv[1]), int(sys.argv[2])
listeners: dict[int, set[asyncio.Queue[Any]]] = defaultdict(set)


def publish(run: int, text: bytes) -> None:
    event = json.loads(text)
    for queue in listeners[run]:
        queue.put_nowait(event)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    server = await listen(FEED, publish)
    yield
    server.close()


app = FastAPI(lifespan=lifespan)


@app.get("/sse/{run}")
async def stream(run: int) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        listeners[run].add(queue)
        try:
            while True:
                yield f"data: {json.dumps(await queue.get())}\n\n"
        finally:
            listeners[run].discard(queue)

    return StreamingResponse(events(), media_type="text/event-stream")


uvicorn.run(app, port=PORT, log_level="warning", access_log=False, backlog=4096)
