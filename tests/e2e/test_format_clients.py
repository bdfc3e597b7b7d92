"""The formats with the real clients from npm: whenever they join, the text is the step's output, once.

Two steps stream in parallel; one of them fails in mid-stream and is tried again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.chat_clients import FrontEnds, front_ends
from tests.support.processes import free_port, serving
from tests.support.tools import need
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

THOUGHTS: Final = tuple(f"thought{n} ".encode() for n in range(20))
WORDS: Final = tuple(f"word{n} ".encode() for n in range(12))
THINKING: Final = b"".join(THOUGHTS).decode()
ANSWER: Final = b"".join(WORDS).decode()
JOINS: Final = (0.0, 0.3, 1.0, 3.0)
AFTER_THE_END: Final = None
STREAM: Final = """
  {name}:
    path: /{name}/{{workflowRunId}}
    format: {format}
    unknown: {unknown}
    finished: replay
    {retry}
    rules:
      - {{events: step_stream, steps: think, as: {thinking}, whole: payload.text}}
      - {{events: step_stream, steps: answer, as: text, whole: payload.text}}
"""


def streams(*named: tuple[str, str, str, str]) -> str:
    """The YAML of streams: name, format, more keys, and what thoughts are."""
    written = "".join(
        STREAM.format(
            name=name, format=form, unknown="204" if form == "ai-sdk" else "wait", retry=retry, thinking=part
        )
        for name, form, retry, part in named
    )
    return 'version: 1\nhatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}\nstreams:' + written


def workflow(every: float = 0.1) -> Script:
    """Two steps that stream in parallel, a chunk each `every` seconds; `answer` fails once, at its end."""
    plan = Step("plan", takes=0.1, output={"steps": 2})
    think = Step("think", ("plan",), chunks=Chunks(THOUGHTS, every), output={"text": THINKING})
    answer = Step(
        "answer",
        ("plan",),
        chunks=Chunks(WORDS, every),
        output={"text": ANSWER},
        fails=Failure(attempts=1),
        retries=1,
    )
    return script(Workflow("chat", (plan, think, answer)))


async def read_joining(
    clients: FrontEnds, engine: Engine, url: str, names: tuple[str, ...]
) -> list[tuple[str, float | None, dict[str, Any]]]:
    """What each client has in the end that joins one run after each of JOINS, and after its end."""
    run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})

    async def is_known() -> bool:
        return (await http.head(f"{url}/{names[0].partition(':')[2]}/{run_id}")).status_code == 200

    async with httpx.AsyncClient(
        timeout=30
    ) as http:  # the clients try nothing again: no 503 may come in between
        await until(is_known, "the proxy knows the run")

    async def one(name: str, after: float) -> tuple[str, float | None, dict[str, Any]]:
        await asyncio.sleep(after)
        client, _, stream = name.partition(":")
        return name, after, await clients.read(client, f"{url}/{stream}/{run_id}")

    found = list(await asyncio.gather(*(one(name, after) for name in names for after in JOINS)))
    return found + [(name, AFTER_THE_END, (await one(name, 0))[2]) for name in names]


def texts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The texts of a UI message that are not empty."""
    parts = found["message"]["parts"]
    return sorted((part["type"], part["text"]) for part in parts if part.get("text"))


async def test_the_ai_sdk_shows_the_steps_outputs_once_whenever_it_joins(tmp_path: Path) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(
        streams(("chat", "ai-sdk", "", "reasoning"), ("held", "ai-sdk", "retry: hold", "reasoning"))
    )
    names = ("ai7:chat", "ai7:held", "ai700:held", "ai6:held", "ai5:held")
    async with (
        front_ends(tmp_path / "clients") as clients,
        Engine(workflow(), seed=3) as engine,
        serving(file, engine.env) as (_, url),
    ):
        found = await read_joining(clients, engine, url, names)
        unknown = await clients.read("ai7", f"{url}/chat/00000000-0000-4000-8000-000000000000")
    wrong = [
        (name, after, each)
        for name, after, each in found
        if "thrown" in each
        or each["errors"]
        or each["kinds"][-1] != "finish"
        or texts(each) != [("reasoning", THINKING), ("text", ANSWER)]
    ]
    assert wrong == []
    assert any("reset-step" in each["kinds"] for name, _, each in found if name == "ai7:chat")
    assert not any("reset-step" in each["kinds"] for name, _, each in found if name != "ai7:chat")
    assert unknown["nothing"]


async def test_an_ag_ui_agent_has_the_steps_outputs_once_whenever_it_joins(tmp_path: Path) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("agent", "ag-ui", "", "text"), ("held", "ag-ui", "retry: hold", "text")))
    async with (
        front_ends(tmp_path / "clients") as clients,
        Engine(workflow(), seed=4) as engine,
        serving(file, engine.env) as (_, url),
    ):
        found = await read_joining(clients, engine, url, ("ag-ui:agent", "ag-ui:held"))
    wrong = [(name, after, each) for name, after, each in found if not is_right(each, name.endswith(":held"))]
    assert wrong == []
    assert any(custom[0] == "stream.reset" for name, _, each in found for custom in each["custom"])


def is_right(found: dict[str, Any], held: bool) -> bool:
    """Whether an agent's messages are the two outputs; `held`: it was never sent a text that became void."""
    if "thrown" in found or found["error"] is not None or found["events"][-1] != "RUN_FINISHED":
        return False
    resets = [value for name, value in found["custom"] if name == "stream.reset"]
    void = {message for value in resets for message in value["messageIds"]}
    messages = [each for each in found["messages"] if each["id"] not in void]
    return sorted(each["content"] for each in messages) == [THINKING, ANSWER] and not (held and resets)


async def test_an_openai_client_and_a_plain_reader_get_the_outputs_once_whenever_they_join(
    tmp_path: Path,
) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(streams(("completion", "openai", "", "text"), ("plain", "text", "", "text")))
    async with (
        front_ends(tmp_path / "clients") as clients,
        Engine(workflow(), seed=5) as engine,
        serving(file, engine.env) as (_, url),
    ):
        names = ("openai:completion", "openai-python:completion", "text:plain")
        found = await read_joining(clients, engine, url, names)
    either = {THINKING + ANSWER, ANSWER + THINKING}  # in the order in which the steps ended
    for name, after, each in found:
        assert "thrown" not in each, (name, after, each)
        if name != "text:plain":
            assert (each["roles"], each["reasons"]) == (["assistant"], ["stop"]), (after, each)
            assert each["content"] in either, (after, each)
        else:
            assert each["type"] == "text/plain; charset=utf-8"
            assert each["text"] in either, (after, each)


@asynccontextmanager
async def route(engine: Engine, streams: str) -> AsyncIterator[str]:
    """An application's route: it starts a run for each POST, and answers 303 with the run's stream."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})
        stream = head.split()[1].strip("/")
        head = f"HTTP/1.1 303 See Other\r\nlocation: {streams}/{stream}/{run_id}\r\ncontent-length: 0\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_client_that_posts_its_messages_is_sent_on_to_the_stream_of_the_run(tmp_path: Path) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(
        streams(
            ("held", "ai-sdk", "retry: hold", "reasoning"),
            ("agent", "ag-ui", "", "text"),
            ("completion", "openai", "", "text"),
        )
    )
    names = ("ai5:held", "ai6:held", "ai700:held", "ai7:held", "ag-ui:agent", "openai:completion")
    async with (
        front_ends(tmp_path / "clients") as clients,
        Engine(workflow(every=0.02), seed=8) as engine,
        serving(file, engine.env) as (_, url),
        route(engine, url) as application,
    ):
        each = (name.partition(":")[::2] for name in names)
        reads = (clients.read(client, f"{application}/{stream}", posts=True) for client, stream in each)
        *sdks, agent, completion = await asyncio.gather(*reads)
    for found in sdks:
        assert (found["errors"], texts(found)) == ([], [("reasoning", THINKING), ("text", ANSWER)])
    assert is_right(agent, held=False)
    assert completion["content"] in {THINKING + ANSWER, ANSWER + THINKING}


async def test_a_client_that_comes_back_after_the_proxy_was_killed_in_mid_stream_has_the_outputs_once(
    tmp_path: Path,
) -> None:
    need("node")
    file = tmp_path / "streams.yaml"
    file.write_text(
        streams(
            ("chat", "ai-sdk", "", "reasoning"),
            ("held", "ai-sdk", "retry: hold", "reasoning"),
            ("agent", "ag-ui", "", "text"),
            ("completion", "openai", "", "text"),
            ("plain", "text", "", "text"),
        )
    )
    sdks = ("ai7:chat", "ai5:held", "ai6:held", "ai700:held")
    names = (*sdks, "ag-ui:agent", "openai:completion", "text:plain")
    async with front_ends(tmp_path / "clients") as clients, Engine(workflow(), seed=6) as engine:
        port = free_port()

        async def all_of(run_id: str) -> list[dict[str, Any]]:
            each = (name.partition(":")[::2] for name in names)
            reads = (
                clients.read(client, f"http://127.0.0.1:{port}/{stream}/{run_id}") for client, stream in each
            )
            return list(await asyncio.gather(*reads))

        async with serving(file, engine.env, port) as (first, _):
            run_id = await engine.trigger("chat", {}, metadata={"stream": "on"})
            before = asyncio.create_task(all_of(run_id))
            steps = engine.run(run_id).steps
            await until(
                lambda: "think" in steps and steps["think"].next_index > 3, "the run is in mid-stream"
            )
            await first.stop(signal.SIGKILL)
            await before
        async with serving(file, engine.env, port):
            *sdk, agent, completion, plain = await all_of(run_id)
    for found in sdk:
        assert "thrown" not in found
        assert (found["errors"], texts(found)) == ([], [("reasoning", THINKING), ("text", ANSWER)])
    assert is_right(agent, held=False)
    assert completion["content"] in {THINKING + ANSWER, ANSWER + THINKING}
    assert plain["text"] in {THINKING + ANSWER, ANSWER + THINKING}
