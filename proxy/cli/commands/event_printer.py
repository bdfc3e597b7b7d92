"""What `watch` says of each thing that happened: one line, but chunks kept back alike are counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

import click

from proxy.core.events import STEP_STREAM, End, Event, Item
from proxy.rules.ruleset import Rules, RuleVerdict

NARROWEST: Final = 40  # characters of data that are shown, however narrow the terminal


class Telling:
    """Says line after line; chunks of a step that are kept back for one reason are counted."""

    def __init__(self, rules: Rules, say: Callable[[str], None]) -> None:
        self._rules = rules
        self._say = say
        self._kept: tuple[str | None, str] | None = None
        self._more = 0

    def tell(self, item: Item) -> None:
        """Say what becomes of `item`."""
        if not isinstance(item, Event):
            self._other(None)
            self._say(_end(item) if isinstance(item, End) else _notice(self._rules, item))
            return
        verdicts = self._rules.verdicts(item)
        message = next((verdict.message for verdict in verdicts if verdict.message is not None), None)
        of = (item.step or "the run") + ("" if item.index is None else f"#{item.index}")
        head = f"{item.type:14} {of}"
        if message is not None:
            self._other(None)
            name = click.style(message.event or "message", fg="green")
            self._say(f"{head}  {message.rule} → {name} {_short(message.data.decode())}")
            return
        why = why_not(verdicts)
        if not self._other((item.step, why) if item.type == STEP_STREAM else None):
            self._say(click.style(f"{head}  not forwarded: {why}", fg="bright_black"))

    def _other(self, kept: tuple[str | None, str] | None) -> bool:
        """Whether it is one more of the same; else the count of those is said."""
        if kept is not None and kept == self._kept:
            self._more += 1
            return True
        if self._more:
            more = (
                f"{self._more} more chunk{'' if self._more == 1 else 's'} of step {(self._kept or ('',))[0]}"
            )
            self._say(click.style(f"{'':14} … {more}, likewise", fg="bright_black"))
        self._kept, self._more = kept, 0
        return False


def _end(item: End) -> str:
    return click.style(f"stream.end     {item.status}", bold=True)


def why_not(verdicts: Sequence[RuleVerdict]) -> str:
    """Why an event is not forwarded: the failure of the rule that decided, or each rule's reason."""
    for verdict in verdicts:
        if verdict.matched:
            return f"{verdict.rule}: {'; '.join(verdict.reasons)}"
    reasons = [f"{verdict.rule}: {'; '.join(verdict.reasons)}" for verdict in verdicts]
    return "no rule matches (" + ", ".join(reasons) + ")" if reasons else "the stream has no rules"


def _notice(rules: Rules, item: Item) -> str:
    """A gap or a reset; one of a step whose chunks the stream does not forward is not told."""
    step: str | None = getattr(item, "step", None)
    attempt: int | None = getattr(item, "attempt", None)
    cause = getattr(item, "cause", None)
    if cause is None:
        said = f"stream.reset   {step}  attempt {attempt} begins"
    else:
        missed = getattr(item, "missed", None)
        count = "some chunks" if missed is None else f"{missed} chunk{'' if missed == 1 else 's'}"
        said = f"stream.gap     {step or 'the whole stream'}  {count} cannot be given: {cause.value}"
    if step is not None and not rules.forwards_chunks(step):
        return click.style(f"{said}  not told: no rule forwards chunks of this step", fg="bright_black")
    return click.style(said, fg="yellow")


def _short(text: str) -> str:
    """Cut to the terminal's width on a terminal, whole in a pipe."""
    if not sys.stdout.isatty():
        return text
    room = max(NARROWEST, os.get_terminal_size(sys.stdout.fileno()).columns - NARROWEST)
    return text if len(text) <= room else text[: room - 1] + "…"
