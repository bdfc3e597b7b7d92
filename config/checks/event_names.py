"""Event names and globs in rules: which events a pattern takes, and hints for wrong names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from config.expressions.globs import CHUNKS, matches, matches_event
from config.expressions.types import EVENT_TYPES
from config.model.types import nearest

STEP_EVENTS: Final = tuple(name for name in EVENT_TYPES if name.startswith("step_"))
RUN_EVENTS: Final = tuple(name for name in EVENT_TYPES if name.startswith("run_"))

NO_TIMEOUT: Final = "Hatchet has no event for a timeout: it is a `step_failed`"
NO_RUN_START: Final = "Hatchet has no event for the start of a run: `step_started` is the first event"
NO_QUEUE: Final = (
    "`step_started` is sent when Hatchet creates the step; there is no event between that and its end"
)

NEVER_SENT: Final = {
    **dict.fromkeys(("step_timed_out", "step_timeout", "step_timedout", "timed_out", "timeout"), NO_TIMEOUT),
    **dict.fromkeys(("run_timed_out", "run_timeout"), "a run in which a step timed out is a `run_failed`"),
    **dict.fromkeys(("run_started", "run_start", "run_created", "run_queued", "run_running"), NO_RUN_START),
    **dict.fromkeys(("workflow_started", "workflow_run_started", "started", "start"), NO_RUN_START),
    **dict.fromkeys(("step_queued", "step_assigned", "step_running", "step_created"), NO_QUEUE),
    **dict.fromkeys(("step_retried", "step_retry"), "write `step_retrying`"),
    **dict.fromkeys(
        ("step_succeeded", "step_finished", "step_done", "step_result"), "write `step_completed`"
    ),
    **dict.fromkeys(("run_succeeded", "run_finished", "run_done", "run_ended"), "write `run_completed`"),
    **dict.fromkeys(("step_error", "step_errored"), "write `step_failed`"),
    **dict.fromkeys(("run_error", "run_errored"), "write `run_failed`"),
    **dict.fromkeys(("step_chunk", "step_token", "stream", "step_streaming"), "write `step_stream`"),
    **dict.fromkeys(
        ("token", "tokens", "chunk", "chunks", "delta", "message", "text"), "write `step_stream`"
    ),
    **dict.fromkeys(
        ("completed", "complete", "succeeded", "success", "finished", "result", "results", "output"),
        "write `step_completed` for each step's result, `run_completed` for the run's end",
    ),
    **dict.fromkeys(
        ("failed", "failure", "error", "errors"),
        "write `step_failed` for a step, `run_failed` for the whole run",
    ),
    **dict.fromkeys(
        ("cancelled", "canceled"), "write `step_cancelled` for a step, `run_cancelled` for the whole run"
    ),
    **dict.fromkeys(
        ("end", "done", "run_end", "stream_end"),
        "write `run_*` for the run's end; the proxy sends `stream.end` by itself",
    ),
    **dict.fromkeys(("retry", "retrying", "stream_reset"), "write `step_retrying`"),
    **dict.fromkeys(
        ("all", "any", "every", "everything"), 'write "*" for every event but chunks, which are `step_stream`'
    ),
    **dict.fromkeys(("step_canceled",), "write `step_cancelled`, with two l"),
    **dict.fromkeys(("run_canceled",), "write `run_cancelled`, with two l"),
}


SEPARATORS: Final = re.compile(r"\s*[,;|]\s*|\s+(?:or|and)\s+|\s+")


def is_glob(pattern: str) -> bool:
    """Whether a name has wildcards."""
    return any(character in pattern for character in "*?")


def taken(patterns: Iterable[str], *, steps: bool) -> frozenset[str]:
    """The events that a rule takes; with `steps` written it takes no run events."""
    among = STEP_EVENTS if steps else EVENT_TYPES
    asked = tuple(patterns)
    return frozenset(name for name in among if matches_event(asked, name))


def event_problem(pattern: str) -> tuple[str, str, str] | None:
    """Code, message and hint about a name or glob that matches no event; None where it matches one."""
    if any(matches_event((pattern,), name) for name in EVENT_TYPES):
        return None
    if matches((pattern,), CHUNKS):
        message = f"`{short(pattern)}` matches no event: globs do not take chunks"
        return "unknown-event", message, f"write `{CHUNKS}`"
    parts = [
        part.strip() for part in re.split(r"[,;|]|\s+(?:or|and)\s+|\s+", pattern.strip("[] ")) if part.strip()
    ]
    if len(parts) > 1 and any(matches_event((part,), name) for part in parts for name in EVENT_TYPES):
        message = f"`{short(pattern)}` is read as one name, and there is no such event"
        return "unknown-event", message, f"write a list: [{', '.join(quoted(part) for part in parts)}]"
    low = pattern.strip().lower().replace("-", "_").replace(".", "_")
    if low in NEVER_SENT:
        return "unknown-event", f"there is no event `{pattern}`", NEVER_SENT[low]
    if is_glob(pattern):
        return "unknown-event", f"`{pattern}` matches no event", f"the events are {', '.join(EVENT_TYPES)}"
    hint = nearest(low, EVENT_TYPES) or f"the events are {', '.join(EVENT_TYPES)}"
    return "unknown-event", f"there is no event `{short(pattern)}`", hint


def quoted(part: str) -> str:
    """An entry of a list as YAML needs it: a glob is in quotes, since `*` begins an alias."""
    return f'"{part}"' if part.startswith("*") else part


def short(name: str) -> str:
    """A name, shortened where it is very long."""
    return name if len(name) <= 60 else name[:60] + "…"
