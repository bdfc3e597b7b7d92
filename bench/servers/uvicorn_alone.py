"""uvicorn alone: an ASGI application that only begins a stream, as a lower bound of a connect.

python bench/servers/uvicorn_alone.py PORT FEED_PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn
from lines import listen

PORT, FEED = int(sys.argv[1]), int(sys.argv[2])
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"retry: 1000\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def main() -> None:
    feed = await listen(FEED, lambda run, text: None)
    config = uvicorn.Config(
        app, port=PORT, log_level="warning", access_log=False, backlog=4096, lifespan="off"
    )
    await asyncio.gather(uvicorn.Server(config).serve(), feed.serve_forever())


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
