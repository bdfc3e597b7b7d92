"""``ag-ui``: the events of the Agent-User Interaction protocol, read by CopilotKit and ``@ag-ui/client``.

Sources: npm's ``@ag-ui/client`` 1.0.0, ``verify/verify.ts``, ``chunks/transform.ts``, ``apply/default.ts``.
Facts that decide what is written here:

- ``RUN_STARTED`` must come first and nothing may follow ``RUN_FINISHED`` or ``RUN_ERROR``.
- ``TEXT_MESSAGE_CHUNK`` opens its message by itself, and the client closes it at the next other event. Chunks
  of several messages may alternate: a message that is opened again goes on where it was.
- A message that has been sent cannot be taken back. A new attempt has a new message id, and ``stream.reset``
  names the messages that are void.
- Text for a message id that the client knows is appended. So message ids differ between two backlogs of a
  run: a client that meets another process gets new messages, never a text with another one appended to it.
- An open tool call or step at the end of the run is an error.
- 0.0.59, which CopilotKit 1.74 brings, refuses an ``outcome`` of ``RUN_FINISHED`` that it does not know. So a
  custom event says that the run was cancelled.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core import json_codec
from proxy.core.events import STEP_ENDS, STEP_STREAM, Event, GapCause, Reset, StepGap
from proxy.formats.machine import (
    ERROR,
    METADATA,
    REASONING,
    STEP,
    TEXT,
    TOOL_INPUT,
    TOOL_OUTPUT,
    Facts,
    Refused,
    Sent,
)
from proxy.formats.transcript import DATA, Part, Transcript

GAP: Final = "stream.gap"
RESET: Final = "stream.reset"
ENDED: Final = "stream.end"
FAILED: Final = "The run failed"
"""The message of ``RUN_ERROR`` where no rule with ``as: error`` has one: nothing of the run's error gets
out."""
_KINDS: Final = {TEXT: "TEXT_MESSAGE_CHUNK", REASONING: "REASONING_MESSAGE_CHUNK"}
_END: Final = "end"


def _block(kind: str, **fields: Any) -> bytes:
    return b"data: " + json_codec.encode({"type": kind, **fields})


def _delta(part: Part, text: str) -> bytes:
    if part.kind == REASONING:
        return _block(_KINDS[REASONING], messageId=part.id, delta=text)
    return _block(_KINDS[TEXT], messageId=part.id, role="assistant", delta=text)


def _custom(name: str, data: Any) -> bytes:
    return _block("CUSTOM", name=name, value=data)


def _lost(cause: GapCause, part: Part) -> bytes:
    return _custom(GAP, StepGap(cause, part.step, part.attempt, None).data)


class AgUi:
    """One run as the events of one AG-UI run."""

    def __init__(self, facts: Facts) -> None:
        self._run = {"threadId": facts.thread, "runId": facts.run_id}
        self._salt = facts.salt
        self.log = Transcript(_delta, _lost)
        self._open: dict[str, Part] = {}  # the message that each step streams now
        self._texts: dict[str, int] = {}  # how many messages there were of a step's attempt
        self._tools: dict[str, Part] = {}
        self._steps: dict[str, Part] = {}  # steps that are started and not finished
        self._error: str | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def begin(self) -> list[bytes]:
        return [_block("RUN_STARTED", **self._run)]

    # -- messages --

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        if sent is not None and sent.part in (TOOL_INPUT, TOOL_OUTPUT):
            self._check_tool(sent)
        ends = event.type in STEP_ENDS
        if ends:
            self._open.pop(_key(event), None)
        blocks = [] if sent is None else self._part(event, sent.part, sent.data)
        return blocks + (self._finish_step(event) if ends else [])

    def _part(self, event: Event, kind: str, data: Any) -> list[bytes]:
        if kind in _KINDS:
            return self._text(event, kind, data) if data else []
        if kind == TOOL_INPUT:
            return self._tool_input(event, data["id"], data["name"], data["input"])
        if kind == TOOL_OUTPUT:
            return self._tool_output(event, data)
        if kind == STEP:
            return self._start_step(event, data)
        if kind == ERROR:
            self._error = data
            return []
        name = METADATA if kind == METADATA else kind.removeprefix(DATA)
        return self.log.add(_part_of(event, kind), _custom(name, data))

    def _text(self, event: Event, kind: str, text: str) -> list[bytes]:
        key = _key(event)
        part = self._open.get(key) if event.type == STEP_STREAM else None
        if part is None or part.kind != kind:
            name = f"{key}-{event.attempt or 1}"
            number = self._texts[name] = self._texts.get(name, 0) + 1
            part = _part_of(event, kind)
            part.id = f"{name}-{self._salt}" + ("" if number == 1 else f"-{number}")
            self.log.add(part)
            if event.type == STEP_STREAM:
                self._open[key] = part
        return [self.log.append(part, text)]

    def _check_tool(self, sent: Sent) -> None:
        known = self._tools.get(sent.data["id"])
        if sent.part == TOOL_INPUT and known is not None:
            raise Refused("a tool call with this id has begun already")
        if sent.part == TOOL_OUTPUT and known is not None and known.tail:
            raise Refused("the tool call with this id has its output already")

    def _tool_input(self, event: Event, tool: str, name: str, given: Any) -> list[bytes]:
        part = self._tools[tool] = _part_of(event, TOOL_INPUT)
        part.id = tool
        if event.type == STEP_STREAM:
            self._open.pop(_key(event), None)  # what the step says after the call is another message
        return self.log.add(
            part,
            _block("TOOL_CALL_START", toolCallId=tool, toolCallName=name),
            _block("TOOL_CALL_ARGS", toolCallId=tool, delta=json_codec.encode(given).decode()),
            _block("TOOL_CALL_END", toolCallId=tool),
        )

    def _tool_output(self, event: Event, data: dict[str, Any]) -> list[bytes]:
        tool, output = data["id"], data["output"]
        known = self._tools.get(tool)
        blocks: list[bytes] = []
        if known is None:  # its input was lost, or no rule sends it
            blocks += self._tool_input(event, tool, data.get("name") or event.step or "tool", {})
            known = self._tools[tool]
        content = output if isinstance(output, str) else json_codec.encode(output).decode()
        result = _block(
            "TOOL_CALL_RESULT",
            messageId=f"{tool}-{self._salt}",
            toolCallId=tool,
            content=content,
            role="tool",
        )
        return blocks + self.log.close(known, result)

    def _start_step(self, event: Event, name: str) -> list[bytes]:
        """A step of the run begins; two of one name cannot be open at once."""
        key = _key(event)
        if key in self._steps or any(part.id == name for part in self._steps.values()):
            return []
        part = self._steps[key] = Part(STEP, name)
        return self.log.add(part, _block("STEP_STARTED", stepName=name))

    def _finish_step(self, event: Event) -> list[bytes]:
        part = self._steps.pop(_key(event), None)
        if part is None:
            return []
        return self.log.add(Part(STEP), _block("STEP_FINISHED", stepName=part.id))

    # -- resets and gaps --

    def control(self, item: Reset | StepGap) -> list[bytes]:
        if isinstance(item, StepGap):
            return self.log.add(Part(GAP, step=item.step, attempt=item.attempt), _custom(GAP, item.data))
        void = [part for part in self.log.parts if part.step == item.step and part.kind != RESET]
        self.log.remove(void)
        for part in void:
            if part.kind == TOOL_INPUT:
                self._tools.pop(part.id, None)
        self._open = {key: part for key, part in self._open.items() if part not in void}
        messages = [part.id for part in void if part.kind in _KINDS]
        tools = [part.id for part in void if part.kind == TOOL_INPUT]
        if all(part.kind == GAP for part in void):
            return []
        data = {**item.data, "messageIds": messages, "toolCallIds": tools}
        return self.log.add(Part(RESET, step=item.step, once=True), _custom(RESET, data))

    # -- the end, and clients that join --

    def end(self, status: str) -> list[bytes]:
        blocks: list[bytes] = []
        for part in self._steps.values():
            blocks += self.log.add(Part(STEP), _block("STEP_FINISHED", stepName=part.id))
        self._steps.clear()
        self._open.clear()
        if status == "failed":
            last = [_block("RUN_ERROR", message=self._error or FAILED)]
        else:
            last = [] if self._error is None else [_custom(ERROR, self._error)]
            if status == "cancelled":
                last.append(_custom(ENDED, {"status": status}))
            last.append(_block("RUN_FINISHED", **self._run))
        return blocks + self.log.add(Part(_END), *last)

    def again(self, cause: str) -> list[bytes]:
        return [_custom(GAP, StepGap(GapCause(cause), None, None, None).data)]

    def trim(self, size: int) -> None:
        self.log.trim(size)


def _part_of(event: Event, kind: str) -> Part:
    """A part that is void with the step's attempt where a chunk made it."""
    return Part(kind, step=event.step if event.type == STEP_STREAM else None, attempt=event.attempt)


def _key(event: Event) -> str:
    """The key of a step; run events have the run's."""
    return event.step_run_id or event.step or event.run_id
