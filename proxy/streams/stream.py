"""A stream as it is served: its configuration, its compiled rules, and who may read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.model.files import StreamConfig
from proxy.access.origins import Origins
from proxy.formats.wire import Wire, wire_of
from proxy.rules.ruleset import Rules


class Allow(Protocol):
    """A stream's compiled `allow` expression."""

    def permits(self, root: Mapping[str, Any]) -> bool:
        """Whether the client may read the run; `root` holds claims, run and request."""


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream of a team; `key` distinguishes it from a stream of the same name with other rules.

    `wire` is what is fixed for its format.
    """

    config: StreamConfig
    rules: Rules
    allow: Allow | None  # None: every authenticated client
    origins: Origins
    metadata_key: str | None = None  # of the path's placeholder; None where it is the run id
    key: str = field(init=False)
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.config.name}:{self.rules.fingerprint}")
        wire = wire_of(self.config.format, controls=self.config.control == "named")
        object.__setattr__(self, "wire", wire)
