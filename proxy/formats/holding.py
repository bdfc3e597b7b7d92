"""Holding: keeps what a step's chunks say back until its attempt cannot fail any more.

It stands before a machine whose protocol cannot take back what was sent.

    chunk of step S             held
    reset of S                  what is held of S is void
    S completed or cancelled    what is held of S is sent, each run of text in one piece, then the event
    S failed or skipped         what is held of S is void: no attempt of it has ended well
    gap of S                    held with the chunks, void with them
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.core.events import (
    STEP_CANCELLED,
    STEP_COMPLETED,
    STEP_ENDS,
    STEP_STREAM,
    Event,
    GapCause,
    Reset,
    StepGap,
)
from proxy.formats.machine import REASONING, TEXT, Machine, Refused, Sent

HELD_BYTES: Final = 200
"""Bytes that something held takes beside its text, roughly."""

_Held = tuple[Event, Sent] | StepGap


class Holding:
    """A machine whose steps' chunks are held."""

    def __init__(self, machine: Machine, failed: Callable[[str, str, str], None]) -> None:
        """`failed` is called with rule, event type and reason where something held is refused later."""
        self._machine = machine
        self.log = machine.log
        self._failed = failed
        self._held: dict[str, list[_Held]] = {}
        self._ended: set[str] = set()
        self._bytes = 0

    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._machine.headers()

    def begin(self) -> list[bytes]:
        return self._machine.begin()

    def message(self, event: Event, sent: Sent | None) -> list[bytes]:
        if event.type == STEP_STREAM:
            if sent is not None:
                self._held.setdefault(event.step or "", []).append((event, sent))
                self._count(_size([(event, sent)]))
            return []
        if event.type not in STEP_ENDS:
            return self._machine.message(event, sent)
        step = event.step or ""
        self._ended.add(step)
        blocks = self._let_out(step, event.type in (STEP_COMPLETED, STEP_CANCELLED))
        return blocks + self._message(event, sent)

    def _let_out(self, step: str, valid: bool) -> list[bytes]:
        held = self._held.pop(step, [])
        self._count_off(held)
        blocks: list[bytes] = []
        for each in _joined(held) if valid else []:
            blocks += self._machine.control(each) if isinstance(each, StepGap) else self._message(*each)
        return blocks

    def _message(self, event: Event, sent: Sent | None) -> list[bytes]:
        """The blocks for `event`; a refusal is reported, because other blocks may be on their way already."""
        try:
            return self._machine.message(event, sent)
        except Refused as refused:
            self._failed("" if sent is None else sent.rule, event.type, str(refused))
            return self._machine.message(event, None)

    def _count_off(self, held: list[_Held]) -> None:
        self._count(-_size(held))

    def _count(self, size: int) -> None:
        self._bytes += size
        self.log.size += size

    def control(self, item: Reset | StepGap) -> list[bytes]:
        if isinstance(item, Reset):
            self._count_off(self._held.pop(item.step, []))
            return []
        if item.step is None or item.step in self._ended:
            return self._machine.control(item)
        self._held.setdefault(item.step, []).append(item)
        return []

    def end(self, status: str) -> list[bytes]:
        blocks: list[bytes] = []
        for step in list(self._held):
            blocks += self._let_out(step, status != "failed")
        return blocks + self._machine.end(status)

    def again(self, cause: str) -> list[bytes]:
        return self._machine.again(cause)

    def trim(self, size: int) -> None:
        """Give up what is held of the steps that hold most, then what the machine holds."""
        while self._bytes > size:
            step = max(self._held, key=lambda name: _size(self._held[name]))
            held = self._held[step]
            last = next(each for each in reversed(held) if not isinstance(each, StepGap))
            self._count_off(held)
            self._held[step] = [StepGap(GapCause.BACKLOG, step, last[0].attempt, None)]
        self._machine.trim(size)


def _size(held: list[_Held]) -> int:
    """Bytes that `held` takes, roughly; gaps are few."""
    chunks = [each for each in held if not isinstance(each, StepGap)]
    return sum(HELD_BYTES + len(str(event.payload)) for event, _ in chunks)


def _joined(held: list[_Held]) -> list[_Held]:
    """`held` with neighbouring pieces of one kind of text as one."""
    found: list[_Held] = []
    texts: list[list[str]] = []  # the pieces of each entry of `found`; empty where it is no text
    for each in held:
        last = found[-1] if found else None
        if isinstance(each, StepGap) or each[1].part not in (TEXT, REASONING):
            found.append(each)
            texts.append([])
        elif isinstance(last, tuple) and texts[-1] and last[1].part == each[1].part:
            texts[-1].append(each[1].data)
        else:
            found.append(each)
            texts.append([each[1].data])
    return [
        (each[0], Sent(each[1].part, "".join(text), each[1].rule))
        if text and isinstance(each, tuple)
        else each
        for each, text in zip(found, texts, strict=True)
    ]
