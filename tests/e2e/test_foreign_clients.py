"""Foreign clients on the demo: httpx-sse, curl, npm's eventsource; and our own clients."""

from __future__ import annotations

import asyncio
import json
import signal

import httpx
import httpx_sse
import pytest

from tests.support.demo_run import CHAT, FAST, FLAKY, STEPS, trigger
from tests.support.eventsource import EventSource
from tests.support.processes import PROGRAM, demo, running
from tests.support.reference import RunPicture, Truth, judge
from tests.support.tools import ROOT, need, need_npm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

STREAMING = ("reason_docs", "generate_response")  # of the others, the first 100 ms may be announced as a gap
EXPECTED_STEPS = {
    name: {"status": "completed", "text": "".join(CHAT.steps[name].chunks), "complete": True}
    for name in STREAMING
}


async def test_httpx_sse_reads_the_tutorials_endpoint_as_unnamed_messages() -> None:
    async with demo(*FAST) as (_, url), httpx.AsyncClient(timeout=30) as client:
        run_id = await trigger(url)
        async with httpx_sse.aconnect_sse(client, "GET", f"{url}/message/{run_id}") as source:
            events = [event async for event in source.aiter_sse()]
    assert [event.event for event in events] == ["message"] * 4 + ["stream.end"]
    result = [json.loads(event.data) for event in events[:4]]
    assert [list(one) for one in result] == [["type", "payload", "messageId"]] * 4
    assert {one["messageId"] for one in result} == {run_id}
    assert result[0]["payload"] == {"status": "reading the docs"}
    assert events[0].data.startswith('{"type":"step_completed","payload":{"status":"reading the docs"}')
    assert json.loads(events[-1].data) == {"status": "completed"}


@pytest.mark.parametrize(("workflow", "truth"), [("chat", CHAT), ("flaky", FLAKY)])
async def test_the_reference_client_gets_the_actual_run(workflow: str, truth: Truth) -> None:
    async with demo(*FAST) as (_, url):
        run_id = await trigger(url, workflow)
        picture = await picture_of(f"{url}/streams/live/{run_id}")
    assert judge(picture, truth) == []
    assert [name for name in STREAMING if not picture.steps[name].complete] == []


async def picture_of(url: str) -> RunPicture:
    picture = RunPicture()
    async with EventSource(url, patience=0.1) as source:
        async for frame in source.frames():
            picture.frame(frame)
            if picture.ended:
                break
    return picture


async def test_npms_eventsource_with_the_javascript_client() -> None:
    need_npm("eventsource")
    async with demo(*FAST) as (_, url):
        run_id = await trigger(url)
        follow = (need("node"), str(ROOT / "tests/e2e/js/follow.mjs"))
        async with running(f"{url}/streams/live/{run_id}", "token", "step", "run", program=follow) as node:
            await node.ended(30)
            result = json.loads(node.output)
    assert (result["state"], result["status"]) == ("ended", "completed")
    assert list(result["steps"]) == list(STEPS)
    assert {name: result["steps"][name] for name in STREAMING} == EXPECTED_STEPS
    assert all(cursor for _, _, cursor in result["frames"])
    ids = [
        cursor for name, _, cursor in result["frames"] if name != "stream.gap"
    ]  # a gap repeats where one stands
    assert len(set(ids)) == len(ids)


async def test_npms_eventsource_gives_up_where_there_is_no_such_run() -> None:
    need_npm("eventsource")
    async with demo(*FAST) as (_, url):
        follow = (need("node"), str(ROOT / "tests/e2e/js/follow.mjs"))
        async with running(f"{url}/message/not-a-run", program=follow) as node:
            await node.ended(30)
            assert json.loads(node.output)["state"] == "refused"


async def test_curl_sees_frames_and_the_cursor_of_the_end_gets_204() -> None:
    curl = (need("curl"), "--silent", "--show-error", "--no-buffer", "--include")
    async with demo(*FAST) as (_, url):
        run_id = await trigger(url)
        async with running(f"{url}/message/{run_id}", program=curl) as first:
            assert await first.ended(30) == 0
        head, _, body = first.output.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200")
        assert "content-type: text/event-stream; charset=utf-8" in head.lower()
        assert "x-accel-buffering: no" in head.lower()
        blocks = body.split("\n\n")
        assert sum("data: {" in block for block in blocks) == len(STEPS) + 1
        last_id = [line for line in body.splitlines() if line.startswith("id: ")][-1].removeprefix("id: ")
        async with running(
            "-H", f"Last-Event-ID: {last_id}", f"{url}/message/{run_id}", program=curl
        ) as again:
            assert await again.ended() == 0
        assert again.output.startswith("HTTP/1.1 204")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_demo_cleanly_while_a_stream_is_open(sign: signal.Signals) -> None:
    async with demo(*FAST) as (one, url):
        run_id = await trigger(url)
        async with EventSource(f"{url}/streams/live/{run_id}") as source:
            frames = source.frames()
            await anext(frames)
            ending = asyncio.create_task(one.stop(sign))
            last = (await anext(frames)).event
            while last not in {"stream.drain", "stream.end"}:
                last = (await anext(frames)).event
            assert await ending == 0
    assert last == "stream.drain"
    assert "Traceback" not in one.output
    assert "have ended." in one.output


async def test_the_demo_reports_a_taken_port_in_one_sentence() -> None:
    async with (
        demo(*FAST) as (_, url),
        running("demo", "--port", url.rpartition(":")[2], program=PROGRAM) as other,
    ):
        assert await other.ended(30) == 3
        assert "cannot listen" in other.output
        assert "Traceback" not in other.output
