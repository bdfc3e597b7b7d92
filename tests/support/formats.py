"""Readers of the formats, as their clients read them; each raises where the real client would.

`UiMessage` follows npm's ``ai`` 7.0.173 (``ui/process-ui-message-stream.ts``), `AgUiMessages`
``@ag-ui/client`` 1.0.0 (``verify/verify.ts``, ``chunks/transform.ts``), `Completion` ``openai`` 7.59.0. The
real clients are driven in ``tests/e2e``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from proxy.core.events import Event
from proxy.formats.machine import Facts

RUN = "d8ed70df-0872-463a-9a78-d6bd88db0b34"
FACTS = Facts(RUN, RUN, "chat", "salt", 1_700_000_000)


def chunk(step: str, text: str, *, attempt: int = 1, index: int = 0) -> Event:
    return Event("step_stream", RUN, step, f"{step}-id", text, attempt, index)


def event(kind: str, step: str | None = None, payload: Any = None, *, attempt: int = 1) -> Event:
    return Event(kind, RUN, step, None if step is None else f"{step}-id", payload, attempt if step else None)


def parsed(blocks: Iterable[bytes]) -> list[Any]:
    """The data of each block; comments are left out."""
    found: list[Any] = []
    for block in blocks:
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                text = line.removeprefix(b"data: ")
                found.append(text.decode() if text == b"[DONE]" else json.loads(text))
    return found


FIELDS = {
    "start": ({"messageId"}, set()),
    "start-step": (set(), set()),
    "finish-step": (set(), set()),
    "reset-step": (set(), set()),
    "finish": (set(), {"finishReason"}),
    "error": ({"errorText"}, set()),
    "message-metadata": ({"messageMetadata"}, set()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, {"providerExecuted"}),
    "tool-output-available": ({"toolCallId", "output"}, {"providerExecuted"}),
}
for _kind in ("text", "reasoning"):
    FIELDS |= {
        f"{_kind}-start": ({"id"}, set()),
        f"{_kind}-delta": ({"id", "delta"}, set()),
        f"{_kind}-end": ({"id"}, set()),
    }


class UiMessage:
    """One message of the AI SDK; `resume`: as a client that resumes, which begins again at ``start``."""

    def __init__(self, *, resume: bool = False) -> None:
        self.parts: list[dict[str, Any]] = []
        self.id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.transient: list[dict[str, Any]] = []
        self.error: str | None = None
        self.finished = False
        self.done = False
        self.kinds: list[str] = []
        self._open: dict[str, dict[str, Any]] = {}
        self._resume = resume

    def read(self, blocks: Iterable[bytes]) -> UiMessage:
        for data in parsed(blocks):
            assert not self.done, "nothing may follow [DONE]"
            if data == "[DONE]":
                self.done = True
            else:
                self._part(data)
        return self

    def _part(self, data: dict[str, Any]) -> None:
        kind = data["type"]
        self.kinds.append(kind)
        fields = set(data) - {"type"}
        if kind.startswith("data-"):
            assert fields <= {"id", "data", "transient"}, data
            self._data(data)
            return
        needed, optional = FIELDS[kind]
        assert needed <= fields <= needed | optional, data
        assert not self.finished, data
        if kind == "start":
            self.id = data["messageId"]
            if self._resume:
                self.parts, self._open, self._resume = [], {}, False
        elif kind == "start-step":
            self.parts.append({"type": "step-start"})
        elif kind == "finish-step":
            assert not self._open, "ai 5, 6 and 7.0.0 forget the texts that are open"
        elif kind == "reset-step":
            first = max((n for n, part in enumerate(self.parts) if part["type"] == "step-start"), default=-1)
            del self.parts[first + 1 :]
            self._open.clear()
        elif kind in ("text-start", "reasoning-start"):
            assert data["id"] not in self._open, data
            part = {"type": kind.removesuffix("-start"), "id": data["id"], "text": ""}
            self.parts.append(part)
            self._open[data["id"]] = part
        elif kind in ("text-delta", "reasoning-delta"):
            self._open[data["id"]]["text"] += data["delta"]
        elif kind in ("text-end", "reasoning-end"):
            del self._open[data["id"]]
        else:
            self._other(kind, data)

    def _other(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "tool-input-available":
            assert all(part.get("tool") != data["toolCallId"] for part in self.parts), data
            part = {"type": f"tool-{data['toolName']}", "tool": data["toolCallId"], "input": data["input"]}
            self.parts.append(part)
        elif kind == "tool-output-available":
            part = next(part for part in self.parts if part.get("tool") == data["toolCallId"])
            assert "output" not in part, data
            part["output"] = data["output"]
        elif kind == "message-metadata":
            self.metadata |= data["messageMetadata"]
        elif kind == "error":
            self.error = data["errorText"]
        else:
            self.finished = True
            assert not self._open

    def _data(self, data: dict[str, Any]) -> None:
        if data.get("transient"):
            self.transient.append(data)
            return
        for part in self.parts:
            if part["type"] == data["type"] and "id" in data and part.get("id") == data["id"]:
                part["data"] = data["data"]
                return
        self.parts.append(data)

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Its parts without the boundaries between its steps."""
        return [part for part in self.parts if part["type"] != "step-start"]

    @property
    def texts(self) -> dict[str, str]:
        return {part["id"]: part["text"] for part in self.shown if part["type"] in ("text", "reasoning")}


class AgUiMessages:
    """The messages that an AG-UI agent has after a run."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self.void: set[str] = set()
        self.tools: dict[str, dict[str, Any]] = {}
        self.custom: list[tuple[str, Any]] = []
        self.ended: dict[str, Any] | None = None
        self._steps: set[str] = set()
        self._started = False

    def read(self, blocks: Iterable[bytes]) -> AgUiMessages:
        for data in parsed(blocks):
            self._event(data)
        return self

    def _event(self, data: dict[str, Any]) -> None:
        kind = data["type"]
        assert self.ended is None, data
        assert self._started == (kind != "RUN_STARTED"), data
        if kind == "RUN_STARTED":
            assert data["threadId"] and data["runId"]
            self._started = True
        elif kind in ("TEXT_MESSAGE_CHUNK", "REASONING_MESSAGE_CHUNK"):
            assert data["delta"]
            assert data["messageId"] not in self.void
            self.messages[data["messageId"]] = self.messages.get(data["messageId"], "") + data["delta"]
        elif kind == "CUSTOM":
            self.custom.append((data["name"], data["value"]))
            if data["name"] == "stream.reset":
                self.void |= set(data["value"]["messageIds"])
                for tool in data["value"]["toolCallIds"]:
                    self.tools.pop(tool, None)
        elif kind == "STEP_STARTED":
            assert data["stepName"] not in self._steps
            self._steps.add(data["stepName"])
        elif kind == "STEP_FINISHED":
            self._steps.remove(data["stepName"])
        elif kind == "TOOL_CALL_START":
            assert data["toolCallId"] not in self.tools
            self.tools[data["toolCallId"]] = {"name": data["toolCallName"], "input": ""}
        elif kind == "TOOL_CALL_ARGS":
            self.tools[data["toolCallId"]]["input"] += data["delta"]
        elif kind == "TOOL_CALL_RESULT":
            self.tools[data["toolCallId"]]["output"] = data["content"]
        elif kind != "TOOL_CALL_END":
            assert kind in ("RUN_FINISHED", "RUN_ERROR"), data
            assert not self._steps
            self.ended = data

    @property
    def texts(self) -> list[str]:
        """The texts that a reader sees who takes void messages away."""
        return [text for name, text in self.messages.items() if name not in self.void]


class Completion:
    """A chat completion that streams."""

    def __init__(self) -> None:
        self.content = ""
        self.reasoning = ""
        self.role: str | None = None
        self.reason: str | None = None
        self.error: str | None = None
        self.done = False

    def read(self, blocks: Iterable[bytes]) -> Completion:
        for data in parsed(blocks):
            assert not self.done
            if data == "[DONE]":
                self.done = True
                continue
            if "error" in data:
                self.error = data["error"]["message"]
                continue
            assert data["object"] == "chat.completion.chunk"
            (choice,) = data["choices"]
            self.role = choice["delta"].get("role", self.role)
            self.content += choice["delta"].get("content", "")
            self.reasoning += choice["delta"].get("reasoning_content", "")
            self.reason = choice["finish_reason"]
        return self
