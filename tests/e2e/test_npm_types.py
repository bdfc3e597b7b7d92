"""`stream-proxy types`: real frames of real streams have the types that it writes; `tsc --strict` says so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Failure, Script, Step, Workflow, script
from tests.support.eventsource import EventSource, Frame
from tests.support.npm_package import compiled, node_modules
from tests.support.processes import serving

COMMAND: Final = Path(sys.executable).parent / "stream-proxy"
TAP: Final = {"stream": "on"}

STREAMS: Final = """
version: 1
hatchet: {token: "${HATCHET_CLIENT_TOKEN}", tap: {stream: "on"}}
types:
  plan:
    output: {type: object, properties: {tools: {type: array, items: {type: string}}}, required: [tools]}
    chunk: {type: object, properties: {thought: {type: string}}, required: [thought]}
streams:
  chat:
    rules:
      - {events: step_stream, steps: plan, payload: json, event: thought, data: payload.thought}
      - events: step_stream
        steps: answer
        event: token
        data: {step: step, attempt: attempt, index: index, text: payload}
      - events: step_completed
        steps: [plan, answer]
        event: result
        data: {type: type, step: step, payload: payload}
      - events: step_*
        nulls: drop
        data: {type: type, step: step, at: at, problem: payload.message, recovered: recovered}
      - events: run_*
        event: run
        data:
          type: type
          tools: payload.plan.tools
          count: length(not_null(payload.plan.tools, `[]`))
          text: join('', payload.plan.tools || `["none"]`)
          first: payload.plan.tools[0]
          known: payload.plan.tools && 'yes' || 'no'
          all: "[type, run_id, metadata]"
        on_error: "null"
"""

USES: Final = """
import type { Streams } from "./streams.js";
import { useRun } from "hatchet-stream-proxy/react";

export const frames: Streams["chat"][] = %s;

export function Chat(): string {
  const run = useRun<Streams["chat"]>("/streams/chat/1", { events: ["thought", "token", "result", "run"] });
  for (const message of run.messages) {
    const { event, data } = message;
    if (event === "token") data.text satisfies string;
    if (event === "thought") data satisfies string;
    if (event === "result" && data.step === "plan") data.payload.tools satisfies string[];
    if (event === "message" && data.type === "step_failed") data.problem satisfies string;
    // @ts-expect-error: control frames are no messages
    if (event === "stream.gap") throw message;
  }
  // @ts-expect-error: an output of which nothing is known
  run.steps.answer?.payload.text;
  // @ts-expect-error: no such step in a typed message
  run.messages.filter(({ event, data }) => event === "token" && data.step === "plan");
  return run.steps.plan?.payload?.tools.join() ?? run.state;
}

type Chat = Streams["chat"];
// @ts-expect-error: no such event
export const a: Chat = { event: "tokens", data: { step: "answer", attempt: 1, index: 0, text: "" } };
// @ts-expect-error: a step whose chunks the rule does not take
export const b: Chat = { event: "token", data: { step: "plan", attempt: 1, index: 0, text: "" } };
// @ts-expect-error: a field is missing
export const c: Chat = { event: "token", data: { step: "answer", text: "" } };
"""


def workflows() -> Script:
    thoughts = tuple(json.dumps({"thought": text}).encode() for text in ("look it up", "then answer"))
    plan = Step("plan", chunks=Chunks(thoughts, 0.02), output={"tools": ["search"]})
    words = Chunks((b"All", b" is", b" well"), 0.02)
    torn = Step("answer", ("plan",), chunks=words, fails=Failure(attempts=1), retries=1, output={"text": "x"})
    fails = Step("answer", ("plan",), chunks=words, fails=Failure("SMTPError: no"))
    return script(Workflow("good", (plan, torn)), Workflow("bad", (plan, fails)))


async def frames_of(url: str) -> list[Frame]:
    frames = []
    async with EventSource(url) as source:
        async for frame in source.frames():
            frames.append(frame)
            if frame.event == "stream.end":
                return frames
    return frames


@pytest.mark.timeout(120)
async def test_real_frames_have_the_types_of_their_stream(tmp_path: Path) -> None:
    file = tmp_path / "streams.yaml"
    file.write_text(STREAMS)
    node_modules(tmp_path, "typescript", "react", "@types/react")
    subprocess.run([COMMAND, "types", file, "-o", tmp_path / "streams.ts"], check=True, capture_output=True)
    frames: list[Frame] = []
    async with Engine(workflows(), seed=1) as engine, serving(file, engine.env) as (_, url):
        for workflow, metadata in (("good", TAP), ("bad", TAP), ("good", {})):
            run_id = await engine.trigger(workflow, {}, metadata)
            frames += await frames_of(f"{url}/streams/chat/{run_id}")
        frames += await frames_of(f"{url}/streams/chat/{run_id}")  # after the end: everything is rebuilt
    seen = {frame.event for frame in frames}
    assert seen >= {"thought", "token", "result", "message", "run", "stream.reset", "stream.end"}
    given = [{"event": frame.event, "data": frame.value, "id": frame.id} for frame in frames]
    (tmp_path / "uses.ts").write_text(USES % json.dumps(given))
    assert await asyncio.to_thread(compiled, tmp_path, "uses.ts") == ""
