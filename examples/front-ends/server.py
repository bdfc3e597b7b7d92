"""The application of the examples: starts a run for each question, and serves a folder of pages.

    python examples/front-ends/server.py examples/front-ends/plain

It needs HATCHET_CLIENT_TOKEN. STREAMS says where the proxy is, PORT where to listen.
"""

import os
import sys
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from hatchet_sdk import Hatchet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STREAMS = os.environ.get("STREAMS", "http://127.0.0.1:8080")
CLIENT = Path(__file__).resolve().parent.parent.parent / "clients" / "js" / "stream-proxy.js"

hatchet = Hatchet()


async def chat(request: Request) -> Response:
    """Start a run for a question: `{"question": …}`, or what AI SDK's `useChat` sends."""
    body = await request.json()
    question = body.get("question") or body["messages"][-1]["parts"][-1]["text"]
    run = await hatchet.runs.aio_create("agent", {"question": question}, {"stream": "on"})
    return JSONResponse({"runId": run.run.metadata.id})


async def answer(request: Request) -> Response:
    """Start a run for the newest message, and send the client to its stream: it follows a 303 with GET."""
    question = (await request.json())["messages"][-1]["content"]
    run = await hatchet.runs.aio_create("agent", {"question": question}, {"stream": "on"})
    stream = "agent" if request.url.path == "/api/agent" else "completion"
    return RedirectResponse(f"/streams/{stream}/{run.run.metadata.id}", 303)


async def ask(request: Request) -> Response:
    """Start a run for the question of an htmx form; the answer is the HTML that reads the run's text."""
    question = parse_qs((await request.body()).decode())["question"][0]
    run = await hatchet.runs.aio_create("agent", {"question": question}, {"stream": "on"})
    reads = f'hx-get="/streams/plain/{run.run.metadata.id}" hx-swap="textContent"'
    again = 'hx-trigger="load, htmx:sendError delay:1s"'  # after a broken connection, from the start
    return HTMLResponse(f"<article><b>{escape(question)}</b><p {reads} {again}>…</p></article>")


async def stream(request: Request) -> Response:
    """In production a load balancer sends these requests to the proxy; here a redirect does."""
    return RedirectResponse(f"{STREAMS}{request.url.path}?{request.url.query}", 307)


async def client(request: Request) -> Response:
    """The client as a plain file, for pages that are not built."""
    return FileResponse(CLIENT, media_type="text/javascript")


app = Starlette(
    routes=[
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/agent", answer, methods=["POST"]),
        Route("/api/v1/chat/completions", answer, methods=["POST"]),
        Route("/ask", ask, methods=["POST"]),
        Route("/streams/{rest:path}", stream),
        Route("/stream-proxy.js", client),
        Mount("/", StaticFiles(directory=sys.argv[1], html=True)),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), log_level="warning")
