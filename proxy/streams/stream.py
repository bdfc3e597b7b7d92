"""A stream as it is served: its configuration, its compiled rules, and who may read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from config.expressions.globs import matches
from config.model.files import StreamConfig
from proxy.access.origins import Origins
from proxy.formats.wire import Wire, wire_of
from proxy.rules.ruleset import Rules


class Allow(Protocol):
    """A stream's compiled `allow` expression."""

    def permits(self, root: Mapping[str, Any]) -> bool:
        """Whether the client may read the run; `root` holds claims, run and request."""


NAMES_WORKFLOW: Final = re.compile(r"\b(workflow|parent)\b")


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream of a team; `key` distinguishes it from a stream of the same name with other rules.

    What follows from the configuration is decided once, because each request asks for it. `wire` is what is
    fixed for its format. `is_merged`: whether it shows several runs. `shows_workflow`: whether a frame may
    have the workflow's name. `depends_on_workflow`: whether it cannot be served before that name is known.
    `needs_workflow`: either of the two.
    """

    config: StreamConfig
    rules: Rules
    allow: Allow | None  # None: every authenticated client
    origins: Origins
    metadata_key: str | None = None  # of the path's placeholder; None where it is the run id
    key: str = field(init=False)
    wire: Wire = field(init=False)
    is_merged: bool = field(init=False)
    shows_workflow: bool = field(init=False)
    depends_on_workflow: bool = field(init=False)
    needs_workflow: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.config.name}:{self.rules.fingerprint}")
        wire = wire_of(self.config.format, controls=self.config.control == "named")
        object.__setattr__(self, "wire", wire)
        object.__setattr__(self, "is_merged", bool(self.config.include) or self.config.runs == "all")
        object.__setattr__(self, "shows_workflow", _shows_workflow(self.config))
        named = self.config.workflow is not None or any(
            rule.workflows is not None for rule in self.config.rules
        )
        object.__setattr__(self, "depends_on_workflow", named)
        object.__setattr__(self, "needs_workflow", named or self.shows_workflow)

    def is_for(self, workflow: str | None) -> bool:
        """Whether it is for runs of this workflow; None is a workflow whose name is not known."""
        wanted = self.config.workflow
        return wanted is None or (workflow is not None and matches(wanted, workflow))


def _shows_workflow(config: StreamConfig) -> bool:
    """Whether an expression may read `workflow` or `parent`: it has the word, or takes the whole event."""
    texts: list[str] = []
    for rule in config.rules:
        data = rule.data.values() if isinstance(rule.data, dict) else (rule.data,)
        texts += [*data, *(text for text in (rule.when, rule.whole) if text is not None)]
    return any(NAMES_WORKFLOW.search(text) or "@" in text for text in texts)
