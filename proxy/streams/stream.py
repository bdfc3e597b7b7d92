"""A stream as it is served: its configuration, its compiled rules, and who may see its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.model.files import StreamConfig
from proxy.access.origins import Origins
from proxy.rules.ruleset import Rules


class Allow(Protocol):
    """A stream's ``allow``, compiled."""

    def permits(self, root: Mapping[str, Any]) -> bool:
        """Whether `root` (claims, run, request) may see the run."""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream as it is served: its configuration and its compiled rules."""

    config: StreamConfig
    rules: Rules
    allow: Allow | None  # None: whoever may ask at all
    origins: Origins
    metadata_key: str | None = None  # of its path, read once
    key: str = field(init=False)  # what tells it from the same stream with other rules

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.config.name}:{self.rules.fingerprint}")
