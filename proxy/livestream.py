"""A stream as it is served: its configuration, its compiled rules, and who may see its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from config.model import StreamConfig
from proxy.origins import Origins
from proxy.rules import Rules


class Allow(Protocol):
    """A stream's ``allow``, compiled."""

    def permits(self, root: Mapping[str, Any]) -> bool:
        """Whether `root` (claims, run, request) may see the run."""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream as it is served: its configuration and its compiled rules."""

    config: StreamConfig
    rules: Rules
    allow: Allow
    origins: Origins
    metadata_key: str | None = None  # of its path, read once

    @property
    def key(self) -> str:
        """What tells it from the same stream with other rules."""
        return f"{self.config.name}:{self.rules.fingerprint}"
