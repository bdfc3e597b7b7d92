"""Adds two files of the repository to a wheel, for the demo: the example YAML and the JavaScript client.

An editable installation reads both from the repository, so that there is only one copy.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DemoFiles(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Puts both files beside the demo's page."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["streams.example.yaml"] = "proxy/cli/demo/streams.example.yaml"
            build_data["force_include"]["clients/js/stream-proxy.js"] = "proxy/cli/demo/stream-proxy.js"
