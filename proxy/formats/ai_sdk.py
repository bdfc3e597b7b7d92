"""``ai-sdk``: the UI message stream of Vercel's AI SDK, read by ``useChat`` and ``readUIMessageStream``.

Sources: ``ui-message-stream/ui-message-chunks.ts`` and ``ui/process-ui-message-stream.ts`` of npm's ``ai``
5.0 to 7.0.173. Facts that decide what is written here:

- ``ai`` 7.0.0 and older majors' first releases refuse a part with a field that they do not know, so parts
  have exactly the fields of the schema. 5.0.90 does not know ``finishReason``, 5.0.115 does.
- A ``text-delta`` or ``text-end`` without its ``text-start`` ends the stream with an error, and so does a
  tool's output without its input.
- ``reset-step`` (7.0.77 and later) removes every part after the last ``start-step``, those of other steps
  too. So these are sent again after it.
- ``finish-step`` makes older versions forget which texts are open, so a step is finished only while none is.
- An ``error`` part makes the client throw and read no further. So errors are sent last.
- ``start`` with the id of a message that the client has makes a resuming client start that message again.
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
from proxy.formats.transcript import Part, Transcript

HEADERS: Final = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE: Final = b"data: [DONE]"
FINISH_REASONS: Final = {"completed": "stop", "failed": "error", "cancelled": "other"}
_STEP: Final = "start-step"
_FINISHED: Final = "finish-step"
_GAP: Final = "gap"
_RESET: Final = "reset"
_END: Final = "end"


def _block(kind: str, **fields: Any) -> bytes:
    return b"data: " + json_codec.encode({"type": kind, **fields})


def _delta(part: Part, text: str) -> bytes:
    return _block(f"{part.kind}-delta", id=part.id, delta=text)


def _gap_block(data: dict[str, Any]) -> bytes:
    return _block("data-gap", data=data, transient=True)


def _lost(cause: GapCause, part: Part) -> bytes:
    return _gap_block(StepGap(cause, part.step, part.attempt, None).data)


class AiSdk:
    """One run as one UI message."""

    def __init__(self, facts: Facts, *, older: bool = False) -> None:
        """`older`: no ``reset-step`` and no ``finishReason``, which older clients refuse."""
        self._facts = facts
        self._older = older
        self.log = Transcript(_delta, _lost)
        self._open: dict[str, Part] = {}  # the text that each step streams now
        self._texts: dict[str, int] = {}  # how many texts there were of a step's attempt
        self._values: dict[tuple[str, str], Part] = {}  # data parts and tool calls
        self._unended: set[str] = set()  # steps with chunks in this step of the message, and without an end
        self._in_step = False  # after a ``start-step``
        self._errors: list[bytes] = []

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def begin(self) -> list[bytes]:
        return [_block("start", messageId=self._facts.run_id)]

    # -- messages --

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        if sent is not None and sent.part in (TOOL_INPUT, TOOL_OUTPUT):
            self._check_tool(sent)
        blocks: list[bytes] = []
        if event.type in STEP_ENDS:
            blocks += self._close(event)
            self._unended.discard(_key(event))
        if sent is None:
            return blocks
        if sent.part == ERROR:
            self._errors.append(_block("error", errorText=sent.data))
        elif sent.part == STEP:
            blocks += self._finish_step()
        elif sent.part == METADATA:
            blocks += self.log.add(Part(METADATA), _block("message-metadata", messageMetadata=sent.data))
        elif sent.data != "" or sent.part not in (TEXT, REASONING):
            blocks += self._start_step()
            if event.type == STEP_STREAM:
                self._unended.add(_key(event))
            blocks += self._part(event, sent.part, sent.data)
        return blocks

    def _part(self, event: Event, kind: str, data: Any) -> list[bytes]:
        if kind in (TEXT, REASONING):
            return self._text(event, kind, data)
        if kind == TOOL_INPUT:
            return self._tool_input(event, data["id"], data["name"], data["input"])
        if kind == TOOL_OUTPUT:
            return self._tool_output(event, data)
        return self._data(event, kind, data)

    def _text(self, event: Event, kind: str, text: str) -> list[bytes]:
        """A piece of a step's text; what comes from another event than a chunk is a text of its own."""
        key = _key(event)
        streamed = event.type == STEP_STREAM
        part = self._open.get(key) if streamed else None
        blocks: list[bytes] = []
        if part is None or part.kind != kind:
            blocks += self._close(event)
            part = self._new_text(event, kind)
            blocks += self.log.add(part, _block(f"{kind}-start", id=part.id))
            if streamed:
                self._open[key] = part
        blocks.append(self.log.append(part, text))
        if not streamed:
            blocks += self.log.close(part, _block(f"{kind}-end", id=part.id))
        return blocks

    def _new_text(self, event: Event, kind: str) -> Part:
        name = f"{_key(event)}-{event.attempt or 1}"
        number = self._texts[name] = self._texts.get(name, 0) + 1
        streamed = event.step if event.type == STEP_STREAM else None
        return Part(kind, name if number == 1 else f"{name}-{number}", streamed, event.attempt)

    def _close(self, event: Event) -> list[bytes]:
        part = self._open.pop(_key(event), None)
        return [] if part is None else self.log.close(part, _block(f"{part.kind}-end", id=part.id))

    def _check_tool(self, sent: Sent) -> None:
        known = self._values.get((TOOL_INPUT, sent.data["id"]))
        if sent.part == TOOL_INPUT and known is not None:
            raise Refused("a tool call with this id has begun already")
        if sent.part == TOOL_OUTPUT and known is not None and known.tail:
            raise Refused("the tool call with this id has its output already")

    def _tool_input(self, event: Event, tool: str, name: str, given: Any) -> list[bytes]:
        blocks = self._close(event) if event.type == STEP_STREAM else []
        step = event.step if event.type == STEP_STREAM else None
        part = self._values[TOOL_INPUT, tool] = Part(TOOL_INPUT, tool, step, event.attempt)
        # The tool ran in the workflow: without `providerExecuted` the client would run one of its own.
        block = _block(
            "tool-input-available", toolCallId=tool, toolName=name, input=given, providerExecuted=True
        )
        return blocks + self.log.add(part, block)

    def _tool_output(self, event: Event, data: dict[str, Any]) -> list[bytes]:
        tool = data["id"]
        known = self._values.get((TOOL_INPUT, tool))
        blocks: list[bytes] = []
        if known is None:  # its input was lost, or no rule sends it
            blocks += self._tool_input(event, tool, data.get("name") or event.step or "tool", {})
            known = self._values[TOOL_INPUT, tool]
        block = _block("tool-output-available", toolCallId=tool, output=data["output"], providerExecuted=True)
        return blocks + self.log.close(known, block)

    def _data(self, event: Event, kind: str, data: Any) -> list[bytes]:
        name = _key(event)
        if event.type == STEP_STREAM:
            name = f"{name}-{event.attempt or 1}-{event.index or 0}"
        block = _block(kind, id=name, data=data)
        known = self._values.get((kind, name))
        if known is not None:
            return self.log.replace(known, block)
        step = event.step if event.type == STEP_STREAM else None
        part = self._values[kind, name] = Part(kind, name, step, event.attempt)
        return self.log.add(part, block)

    def _start_step(self) -> list[bytes]:
        if self._in_step:
            return []
        self._in_step = True
        return self.log.add(Part(_STEP), _block("start-step"))

    def _finish_step(self) -> list[bytes]:
        """Finish the step of the message, where that cuts no text and no reset can be left behind."""
        if not self._in_step or self._open or self._unended:
            return []
        self._in_step = False
        return self.log.add(Part(_FINISHED), _block("finish-step"))

    def _step_begins(self) -> int:
        """The number of the first part after the last ``start-step``."""
        parts = self.log.parts
        return 1 + max((number for number, part in enumerate(parts) if part.kind == _STEP), default=-1)

    # -- resets and gaps --

    def control(self, item: Reset | StepGap) -> list[bytes]:
        if isinstance(item, StepGap):
            return self.log.add(Part(_GAP, step=item.step, attempt=item.attempt), _gap_block(item.data))
        first = self._step_begins()
        current = self.log.parts[first:]
        void = [part for part in current if part.step == item.step]
        erased = any(part.kind != _GAP for part in void)
        if erased:
            void += [part for part in current if part.kind == _RESET]
        gone = set(map(id, void))
        kept = [part for part in current if id(part) not in gone and part.kind not in (_GAP, METADATA)]
        self.log.remove(void, repeated=kept if erased else ())
        for part in void:
            self._values.pop((part.kind, part.id), None)
        self._open = {key: part for key, part in self._open.items() if part not in void}
        if not erased:
            return []
        blocks = self.log.add(Part(_RESET, once=True), _block("reset-step"), at=first)
        for part in kept:
            blocks += self.log.repeat(part)
        return blocks

    # -- the end, and clients that join --

    def end(self, status: str) -> list[bytes]:
        blocks: list[bytes] = []
        for part in self._open.values():
            blocks += self.log.close(part, _block(f"{part.kind}-end", id=part.id))
        self._open.clear()
        self._unended.clear()
        blocks += self._finish_step()
        reason = {} if self._older else {"finishReason": FINISH_REASONS.get(status, "other")}
        finish = _block("finish", **reason)
        return blocks + self.log.add(Part(_END), *self._errors, finish, DONE)

    def again(self, cause: str) -> list[bytes]:
        gap = _gap_block(StepGap(GapCause(cause), None, None, None).data)
        return [gap] if self._older else [gap, _block("reset-step")]

    def trim(self, size: int) -> None:
        self.log.trim(size)


def _key(event: Event) -> str:
    """The key of a step; run events have the run's."""
    return event.step_run_id or event.step or event.run_id
