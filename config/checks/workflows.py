"""Checks which workflows a stream and its rules are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from config.checks.paths import streams_of
from config.checks.rules.reachability import overlap
from config.model.formats import SSE
from config.source.nodes import Path, Source


def workflow_keys(source: Source) -> Iterator[Path]:
    """The keys that need the history: it knows runs' workflows and children."""
    for _, path, block in streams_of(source):
        for key in ("workflow", "include"):
            if key in block:
                yield (*path, key)
        rules = block.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, dict) and "workflows" in rule:
                yield (*path, "rules", number, "workflows")


def check_runs(source: Source, path: Path, block: dict[str, Any]) -> None:
    """`runs: all` needs a path that several runs can have, and messages that can go on for ever."""
    if block.get("runs") != "all":
        return
    place = source.key_at((*path, "runs"))
    template = block.get("path")
    if not isinstance(template, str) or "{metadata." not in template:
        message = "`runs: all` is for a path with `{metadata.KEY}`: a run id names one run"
        source.add(place, "runs", message, "like /conversation/{metadata.conversation_id}")
    if block.get("format", SSE) != SSE:
        message = f"`runs: all` has no end, and a message of `{block['format']}` has one"
        source.add(place, "runs", message, "write `format: sse`, or leave out `runs`")
    if "include" in block:
        message = "`runs: all` and `include` do not go together"
        source.add(place, "runs", message, "write two streams, or leave out one of the two")


def check_workflows(source: Source) -> None:
    """Reports rules that are for workflows which the stream is not for."""
    for _, path, block in streams_of(source):
        check_runs(source, path, block)
        if "workflow" not in block or "include" in block:
            continue
        own = [name for _, name in source.names((*path, "workflow"))]
        rules = block.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if not own or not isinstance(rule, dict) or "workflows" not in rule:
                continue
            here: Path = (*path, "rules", number, "workflows")
            wanted = [name for _, name in source.names(here)]
            if wanted and not overlap(own, wanted):
                message = f"this rule never matches: the stream is for `{own[0]}` alone"
                if len(own) > 1:
                    message = "this rule never matches: the stream is for none of these workflows"
                hint = "remove `workflows`, or add the workflow to the stream's `workflow`"
                source.add(source.key_at(here), "never-matches", message, hint)
