"""What one process knows, as the console's answers: its own, and those for the console of another worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from proxy.console.overview import runs_as_json
from proxy.console.run_view import followed_view, run_as_json, verdicts_as_json
from proxy.teams.hub import Hub


class Others(Protocol):
    """The other workers on this address."""

    async def ask_all(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What each of them answers; one that knows nothing, or is silent, is left out."""


class Nobody:
    """There is one process."""

    async def ask_all(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        return []


def answer(hub: Hub, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to ``{ask: runs | run | item, team, run, number}``; empty where nothing is known."""
    kind, name = question["ask"], question["team"]
    if kind == "runs":
        return runs_as_json(hub, name)
    team, number = hub.teams.get(name), question["number"]
    view = None if team is None else followed_view(team, question["run"], number - (kind == "item"))
    if team is None or view is None:
        return {}
    console = hub.server.console
    shown = console is not None and console.payloads == "shown"
    if kind == "run":
        return run_as_json(view, hub.sessions, shown=shown)
    item = view.item(number)
    return {} if item is None else verdicts_as_json(number, item, team.streams.values(), shown=shown)


def to_json(found: Mapping[str, Any]) -> bytes:
    """The answer as JSON, whatever a payload holds."""
    try:
        return orjson.dumps(found, default=str)
    except TypeError:  # half a character, or an integer beyond 64 bits
        return json.dumps(found, default=str).encode()
