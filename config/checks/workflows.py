"""Checks which workflows a stream and its rules are for."""

from __future__ import annotations

from collections.abc import Iterator

from config.checks.paths import streams_of
from config.checks.rules.reachability import overlap
from config.source.nodes import Path, Source


def workflow_keys(source: Source) -> Iterator[Path]:
    """The keys whose meaning depends on a run's workflow."""
    for _, path, block in streams_of(source):
        if "workflow" in block:
            yield (*path, "workflow")
        rules = block.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, dict) and "workflows" in rule:
                yield (*path, "rules", number, "workflows")


def check_workflows(source: Source) -> None:
    """Reports rules that are for workflows which the stream is not for."""
    for _, path, block in streams_of(source):
        if "workflow" not in block:
            continue
        own = [name for _, name in source.names((*path, "workflow"))]
        rules = block.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if not own or not isinstance(rule, dict) or "workflows" not in rule:
                continue
            here: Path = (*path, "rules", number, "workflows")
            wanted = [name for _, name in source.names(here)]
            if wanted and not overlap(own, wanted):
                said = f"this rule never matches: the stream is for `{own[0]}` alone"
                if len(own) > 1:
                    said = "this rule never matches: the stream is for none of these workflows"
                hint = "remove `workflows`, or add the workflow to the stream's `workflow`"
                source.add(source.key_at(here), "never-matches", said, hint)
