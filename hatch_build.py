"""What a wheel carries beside the two packages: the repository's one example and one client, for the demo.

An editable installation finds both where they are; copies there would be a second truth.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DemoFiles(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Puts them beside the demo's page."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["streams.example.yaml"] = "proxy/cli/demo/streams.example.yaml"
            build_data["force_include"]["clients/stream-proxy.js"] = "proxy/cli/demo/stream-proxy.js"
