"""Streams from a few lines of YAML, through the real loader."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any, cast

from config.checks.checker import Form, check
from config.model.files import SingleFile, StreamConfig, TeamConfig
from config.model.resolve import DEFAULT_TEAM, grant, team
from proxy.rules.ruleset import Failed, Message, Rules
from proxy.rules.sample_event import event_of


def team_of(text: str) -> TeamConfig:
    """A team from the YAML below `hatchet:`."""
    whole = "version: 1\nhatchet: {token: t}\n" + dedent(text)
    checked = check("streams.yaml", whole.encode(), Form.SINGLE, {}, secrets=False)
    assert checked.model is not None, [str(problem) for problem in checked.problems]
    file = cast(SingleFile, checked.model)
    return team(grant(DEFAULT_TEAM, file), file)


def stream_of(rules: str, form: str = "sse") -> StreamConfig:
    """A stream with these rules (a YAML list)."""
    head = f"streams:\n  s:\n    format: {form}\n    rules:\n"
    return team_of(head + indent(dedent(rules), "      ")).streams["s"]


class StreamRules:
    """A stream's rules and everything that failed in them."""

    def __init__(self, rules: str, form: str = "sse") -> None:
        self.failures: list[tuple[str, str, str]] = []

        def failed(rule: str, event_type: str, reason: str) -> None:
            self.failures.append((rule, event_type, reason))

        report: Failed = failed
        self.rules = Rules(stream_of(rules, form), report)

    def message(self, **given: Any) -> Message | None:
        """The message for an event of which only these fields matter."""
        return self.rules.message(event_of(given))

    def data(self, **given: Any) -> str | None:
        """The message's data as text."""
        message = self.message(**given)
        return None if message is None else message.data.decode()
