"""The lines of `watch`: one for each event; chunks that are not forwarded for the same reason are counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

import click

from proxy.core.events import STEP_STREAM, End, Event, Item
from proxy.rules.ruleset import Rules, RuleVerdict

NARROWEST: Final = 40  # characters of data shown at least, on a narrow terminal too


class EventPrinter:
    """Prints a line for each event, and a count of chunks of a step that are withheld for one reason."""

    def __init__(self, rules: Rules, echo: Callable[[str], None], *, controls: bool = True) -> None:
        """`controls`: the stream has control frames; other formats write resets and gaps in their own way."""
        self._rules = rules
        self._prefix = "stream." if controls else ""
        self._echo = echo
        self._withheld: tuple[str | None, str] | None = None
        self._more = 0

    def show(self, item: Item) -> None:
        """Print whether `item` is forwarded, and as what."""
        if not isinstance(item, Event):
            self._other(None)
            self._echo(self._prefix_of(_end(item) if isinstance(item, End) else _notice(self._rules, item)))
            return
        verdicts = self._rules.verdicts(item)
        message = next((verdict.message for verdict in verdicts if verdict.message is not None), None)
        of = (item.step or "the run") + ("" if item.index is None else f"#{item.index}")
        head = f"{item.type:14} {of}"
        if message is not None:
            self._other(None)
            name = click.style(message.part or message.event or "message", fg="green")
            self._echo(f"{head}  {message.rule} → {name} {short(message.data.decode())}")
            return
        why = why_not(verdicts)
        if not self._other((item.step, why) if item.type == STEP_STREAM else None):
            self._echo(click.style(f"{head}  not forwarded: {why}", fg="bright_black"))

    def _prefix_of(self, line: str) -> str:
        return line if self._prefix else line.replace("stream.", "", 1)

    def _other(self, withheld: tuple[str | None, str] | None) -> bool:
        """Whether a chunk is withheld for the same reason as the last one; if not, print the count."""
        if withheld is not None and withheld == self._withheld:
            self._more += 1
            return True
        if self._more:
            more = (
                f"{self._more} more chunk{'' if self._more == 1 else 's'}"
                f" of step {(self._withheld or ('',))[0]}"
            )
            self._echo(click.style(f"{'':14} … {more}, for the same reason", fg="bright_black"))
        self._withheld, self._more = withheld, 0
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
    """The line for a gap or a reset; neither is sent for a step whose chunks the stream does not forward."""
    step: str | None = getattr(item, "step", None)
    attempt: int | None = getattr(item, "attempt", None)
    cause = getattr(item, "cause", None)
    if cause is None:
        line = f"stream.reset   {step}  attempt {attempt} begins"
    else:
        missed = getattr(item, "missed", None)
        count = "some chunks" if missed is None else f"{missed} chunk{'' if missed == 1 else 's'}"
        line = f"stream.gap     {step or 'the whole stream'}  {count} cannot be sent: {cause.value}"
    if step is not None and not rules.forwards_chunks(step):
        return click.style(f"{line}  not sent: no rule forwards chunks of this step", fg="bright_black")
    return click.style(line, fg="yellow")


def short(text: str) -> str:
    """`text`, cut to the width of a terminal; not cut in a pipe."""
    if not sys.stdout.isatty():
        return text
    room = max(NARROWEST, os.get_terminal_size(sys.stdout.fileno()).columns - NARROWEST)
    return text if len(text) <= room else text[: room - 1] + "…"
