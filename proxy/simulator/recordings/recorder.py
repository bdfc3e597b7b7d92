"""Recorder: writes what an engine sends and answers about one run, in the format of tests/recordings/.

Two subscriptions stay open until the run is done: by run id, and by the run's own traceparent. The core's
state and the history are polled ten times a second and written when they change. Payloads are only
described, unless the caller asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict

from proxy.hatchet.protobuf import dispatcher_pb2, workflows_pb2
from proxy.simulator.recordings.client import Client

EVERY = 0.1
AGAIN = 0.25
AFTER_END = 1.0  # seconds for which a run must read done: during a replay it reads so for a moment
HEAD = 40
LONG = 400
TRACEPARENT = "traceparent"

Write = Callable[[str], None]


class Refused(Exception):
    """The engine refuses a call; the text is its status and its details."""


class Recorder:
    """One recording of one run."""

    def __init__(self, client: Client, run_id: str, write: Write, payloads: bool = False) -> None:
        self._client, self._run_id, self._write, self._payloads = client, run_id, write, payloads
        self._begun = time.monotonic()
        self._latest: dict[str, Any] = {}

    async def record(self) -> None:
        """Write until the run is done. Raises Refused where the engine refuses a call."""
        try:
            await self._record()
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from None

    async def _record(self) -> None:
        details = await self._client.details(self._run_id)
        self._line("trigger", workflow_run_id=self._run_id)
        listening = [asyncio.create_task(self._listen("by_run_id", self._run_id, None))]
        pair = json.loads(details.additional_metadata or b"{}").get(TRACEPARENT)
        if pair:
            listening.append(asyncio.create_task(self._listen("by_traceparent", None, (TRACEPARENT, pair))))
        try:
            await self._until_done()
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)

    async def _until_done(self) -> None:
        done_since: float | None = None
        while done_since is None or time.monotonic() - done_since < AFTER_END:
            details = await self._client.details(self._run_id)
            self._changed("GetRunDetails", self._core(details))
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                status, answer = await self._client.history(self._run_id)
                self._changed("REST workflow-runs", self._past(status, answer))
            done_since = (done_since or time.monotonic()) if details.done else None
            await asyncio.sleep(EVERY)

    async def _listen(self, name: str, run_id: str | None, pair: tuple[str, str] | None) -> None:
        for opened in range(1_000_000):
            self._line("live", subscription=name, opened=opened)
            try:
                async for event in self._client.subscribe(run_id, pair):
                    if event.workflow_run_id == self._run_id:
                        self._line("live", subscription=name, event=self._event(event))
                self._line("live", subscription=name, ended="OK")
            except grpc.aio.AioRpcError as error:
                details = error.details() or ""
                self._line("live", subscription=name, ended=error.code().name, details=details[:200])
            await asyncio.sleep(AGAIN)

    def _line(self, source: str, **rest: Any) -> None:
        seconds = round(time.monotonic() - self._begun, 3)
        self._write(json.dumps({"t": seconds, "source": source, **rest}, ensure_ascii=False))

    def _changed(self, source: str, answer: dict[str, Any]) -> None:
        if self._latest.get(source) != answer:
            self._latest[source] = answer
            self._line(source, answer=answer)

    # -- what an answer is reduced to --------------------------------------------------------------

    def _event(self, event: dispatcher_pb2.WorkflowEvent) -> dict[str, Any]:
        known = MessageToDict(event, preserving_proto_field_name=True)
        for number in ("event_index", "retry_count", "task_retries"):
            if number in known:
                known[number] = int(known[number])
        return {**known, "hangup": event.hangup, "event_payload": self._text(event.event_payload)}

    def _core(self, details: workflows_pb2.GetRunDetailsResponse) -> dict[str, Any]:
        steps = {name: self._step(step) for name, step in sorted(details.task_runs.items())}
        metadata = json.loads(details.additional_metadata or b"{}")
        metadata.pop(TRACEPARENT, None)
        return {
            "status": workflows_pb2.RunStatus.Name(details.status),
            "done": details.done,
            "task_runs": steps,
            "additional_metadata": {key: self._value(value) for key, value in metadata.items()},
        }

    def _step(self, step: workflows_pb2.TaskRunDetail) -> dict[str, Any]:
        written = {"external_id": step.external_id, "status": workflows_pb2.RunStatus.Name(step.status)}
        if step.HasField("output"):
            written["output"] = self._text(step.output.decode(errors="replace"))
        if step.error:
            written["error"] = self._text(step.error)
        return written

    def _past(self, status: int, answer: Any) -> dict[str, Any]:
        if status != 200 or not isinstance(answer, Mapping):
            return {"http": status}
        run = answer["run"]
        fields = ("taskExternalId", "actionId", "status", "attempt", "retryCount")
        happened = ("taskId", "timestamp", "eventType", "retryCount")
        return {
            "http": status,
            "run": {
                "status": run["status"],
                "output": self._value(run.get("output")),
                "errorMessage": self._text(run.get("errorMessage") or ""),
            },
            "tasks": [
                {
                    **{key: task.get(key) for key in fields},
                    "output": self._value(task.get("output")),
                    "errorMessage": self._text(task.get("errorMessage") or ""),
                }
                for task in answer.get("tasks") or ()
            ],
            "taskEvents": [
                {key: event.get(key) for key in happened} for event in answer.get("taskEvents") or ()
            ],
        }

    def _text(self, text: str) -> Any:
        if not self._payloads and text:
            return {"redacted": len(text), "json": text[:1] in ("{", "[")}
        return text if len(text) <= LONG else {"long_text": len(text), "head": text[:HEAD]}

    def _value(self, value: Any) -> Any:
        if value in (None, "", {}, []):
            return value
        if not self._payloads:
            return {"redacted": len(json.dumps(value)), "json": isinstance(value, dict | list)}
        text = json.dumps(value, ensure_ascii=False)
        return value if len(text) <= LONG else {"long_text": len(text), "head": text[:HEAD]}
