"""The lines that this process logs, one method for each; nothing else writes log lines.

- A client's stream is one line, written when the stream ends.
- No line holds a payload, a token or a ticket: no method takes one.
- A line that could come a thousand times a second is logged at most once a minute, with the number of lines
  that were suppressed (`Throttle`).
- The lines of a run carry its ``traceparent``, so that they can be joined with the run's own trace.

Where the lines go is passed in (`Write`); `EventLog()` writes nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

from proxy.core.clock import LoopClock
from proxy.hatchet.errors import HatchetError
from proxy.observability.health import TAP_REMEDY
from proxy.observability.throttle import Throttle

Write = Callable[[str, str, Mapping[str, Any]], None]
"""Takes a level (debug, info, warning, error), a sentence and its fields; a field may be an exception."""

TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context, 3.2
TEXT_REMEDY: Final = 'values of metadata must be texts: trigger the run with "4242", not with 4242'
WORK_REMEDY: Final = "simplify the rules that `rule failed` lines and `stream-proxy check --strict` name"
MAX_PROBLEMS: Final = 10  # of a broken file: `stream-proxy check` shows all of them


def _write_nowhere(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Drop the line."""


def _flush_nothing() -> None:
    """Nothing is buffered."""


class DroppedLines(Protocol):
    """The lines that found no room because the log is not read."""

    @property
    def dropped(self) -> int:
        """How many, since the start."""

    def take_dropped(self) -> int:
        """How many since the last call; 0 as long as there is no room for a line that says so."""


class EventLog:
    """The event log of one process."""

    def __init__(
        self,
        write: Write = _write_nowhere,
        *,
        flush: Callable[[], None] = _flush_nothing,
        now: Callable[[], float] | None = None,
        throttle: Throttle | None = None,
        dropped: DroppedLines | None = None,
    ) -> None:
        """`flush` returns when everything logged so far is written; `now` is in monotonic seconds.

        `dropped` knows the lines that were dropped because nobody reads the log; None: none ever are.
        """
        self._write = write
        self.flush: Final = flush
        self._now = now or LoopClock().now
        self._throttle = throttle or Throttle()
        self._dropped = dropped

    def also(self, write: Write) -> None:
        """Give each line to `write` too, from now on."""
        first = self._write

        def both(level: str, event: str, fields: Mapping[str, Any]) -> None:
            first(level, event, fields)
            write(level, event, fields)

        self._write = both

    # -- the process --

    def listening(
        self, *, url: str, admin_url: str | None, teams: int, streams: int, version: str, workers: int = 1
    ) -> None:
        """The listener is open."""
        where = {"url": url} if admin_url is None else {"url": url, "admin_url": admin_url}
        several = {} if workers == 1 else {"workers": workers}
        fields = {**where, "teams": teams, "streams": streams, "version": version, **several}
        self._write("info", "listening", fields)

    def worker_died(self, worker: int, status: int) -> None:
        """A worker ended although nobody stopped it; another one takes its place.

        `status` is its exit status, or a signal's number with a minus sign.
        """
        self._write("error", "worker died", {"worker": worker, "status": status})

    def draining(self, *, clients: int, grace: float) -> None:
        """The process was asked to stop and has `grace` seconds."""
        self._write("info", "draining", {"clients": clients, "grace": grace})

    def stopped(self, *, seconds: float, left: int) -> None:
        """Everything is closed; `left` connections were cut. Counts of suppressed lines are logged first."""
        self._write_suppressed(math.inf)
        self._write("warning" if left else "info", "stopped", {"seconds": round(seconds, 3), "cut_off": left})

    # -- a team's file --

    def reloaded(self, team: str, *, seconds: float) -> None:
        """A new version of a team's file is live."""
        self._write("info", "reloaded", {"team": team, "seconds": round(seconds, 3)})

    def reload_failed(self, team: str, problems: Sequence[str]) -> None:
        """A team's file is broken, or one of its tests fails: the last good version stays."""
        shown = list(problems[:MAX_PROBLEMS])
        self._write("error", "reload failed", {"team": team, "found": len(problems), "problems": shown})

    def remarks(self, problems: Sequence[str]) -> None:
        """Warnings of `check` about files that are served anyway."""
        if problems:
            shown = list(problems[:MAX_PROBLEMS])
            self._write("warning", "configuration warnings", {"found": len(problems), "problems": shown})

    # -- streams --

    def stream_over(
        self,
        *,
        team: str,
        stream: str,
        run: str,
        client: str,
        seconds: float,
        frames: int,
        ending: str,
        traceparent: str | None = None,
        gaps: Mapping[str, int] | None = None,
        span: Mapping[str, str] | None = None,
    ) -> None:
        """One client's stream has ended; `gaps` counts the gaps that it was sent, by cause.

        `traceparent` is the run's; `span` has the ids of the stream's own span, where there is one.
        """
        fields: dict[str, Any] = {
            "team": team,
            "stream": stream,
            "run": run,
            "client": client,
            "seconds": round(seconds, 3),
            "frames": frames,
            "ending": ending,
        }
        if gaps:
            fields["gaps"] = sum(gaps.values())
            fields.update({f"gaps_{cause}": count for cause, count in gaps.items()})
        if traceparent is not None:
            fields.update(_trace_fields(traceparent))
        if span:
            fields.update(span)
        self._write("info", "stream over", fields)

    def no_text_to_find(self, team: str, key: str) -> None:
        """A metadata path was asked for a number or a boolean, and no run carries it as a text."""
        self._throttled(
            "info", "metadata value is not text", (team, key), team=team, key=key, remedy=TEXT_REMEDY
        )

    def refused(
        self,
        team: str,
        stream: str,
        reason: str,
        *,
        why: str,
        limit: str | None = None,
        span: Mapping[str, str] | None = None,
    ) -> None:
        """A request got no stream; throttled, because refused clients try again.

        `reason` is the status or ``wait_…`` with the cause, as the metrics count it. `why` is the sentence in
        the response's body, which never holds anything of the request; `limit` the limit that is reached.
        `span` has the ids of the request's span, where there is one.
        """
        fields = {"team": team, "stream": stream, "reason": reason, "why": why, **(span or {})}
        if limit is not None:
            fields["limit"] = limit
        self._throttled("info", "refused", (team, stream, reason, why), **fields)

    def rule_failed(self, team: str, stream: str, rule: str, event: str, reason: str) -> None:
        """An expression failed on an event of the type `event`; `reason` never holds a value."""
        fields = {"team": team, "stream": stream, "rule": rule, "on": event, "reason": reason}
        self._throttled("warning", "rule failed", (team, stream, rule), **fields)

    def work_used_up(self, team: str) -> None:
        """The rules of a team need more work than a team may do: events are skipped."""
        self._throttled("warning", "work allowance used up", (team,), team=team, remedy=WORK_REMEDY)

    # -- Hatchet --

    def trouble(
        self, team: str, error: HatchetError, *, run: str | None = None, traceparent: str | None = None
    ) -> None:
        """A call to Hatchet failed; throttled by the kind of the error, whichever run it was for."""
        of_run = {} if run is None else {"run": run, **_trace_fields(traceparent)}
        kind = type(error).__name__
        self._throttled(
            "warning", "trouble with Hatchet", (team, kind), team=team, kind=kind, why=str(error), **of_run
        )

    def foreign_event(self, team: str) -> None:
        """A subscription by run id brought an event of another run: it was dropped."""
        self._throttled("warning", "dropped an event of another run", (team,), team=team)

    def recovered(self, team: str, *, seconds: float) -> None:
        """Hatchet answers a team again after `seconds`."""
        self._throttled("info", "Hatchet answers again", (team,), team=team, seconds=round(seconds, 1))

    def history_recovered(self, team: str, *, seconds: float) -> None:
        """The REST history gives usable answers again after `seconds`."""
        self._throttled("info", "the history answers again", (team,), team=team, seconds=round(seconds, 1))

    def issuer_trouble(self, team: str, why: str) -> None:
        """The keys of a team's issuer cannot be had, so tokens cannot be verified."""
        self._throttled("warning", "trouble with the issuer", (team,), team=team, why=why)

    def issuer_recovered(self, team: str, *, seconds: float) -> None:
        """The keys of a team's issuer can be had again after `seconds`."""
        self._throttled("info", "the issuer answers again", (team,), team=team, seconds=round(seconds, 1))

    def subscriptions_used_up(self, team: str, *, limit: int) -> None:
        """A run is followed by its state alone, because ``hatchet.subscriptions`` (`limit`) is reached."""
        self._throttled(
            "warning", "subscriptions used up", (team,), team=team, limit=limit, remedy=TAP_REMEDY
        )

    # -- OpenTelemetry --

    def telemetry_off(self, why: str) -> None:
        """Something that the ``OTEL_*`` variables ask for cannot be had."""
        self._write("warning", "no telemetry", {"why": why})

    def telemetry_dropped(self, signal: str, *, lost: int, why: str) -> None:
        """A collector did not take `lost` spans or exports of metrics; `why` is the exporter's last word."""
        self._throttled("warning", "telemetry dropped", (signal,), signal=signal, lost=lost, why=why)

    # -- the log that replicas share --

    def log_away(self, why: str) -> None:
        """The shared log cannot be reached: runs are served from this replica's memory."""
        self._throttled("warning", "the shared log is away", ("shared log",), why=why)

    def log_recovered(self, *, seconds: float) -> None:
        """The shared log can be reached again after `seconds`."""
        self._throttled("info", "the shared log answers again", ("shared log",), seconds=round(seconds, 1))

    def log_warning(self, why: str) -> None:
        """The shared log can be used, and something about it should be changed."""
        self._write("warning", "shared log warning", {"why": why})

    # -- errors that should not happen --

    def unforeseen(self, team: str, error: Exception) -> None:
        """Following a run failed in a way that should not be possible; it is tried again."""
        kind = type(error).__name__
        self._throttled("error", "unforeseen error", (team, kind), team=team, error=error)

    def foreign(self, logger: str, level: str, text: str, kind: str, error: BaseException | None) -> None:
        """A record of a library's logger, for example asyncio's about a task that ended with an exception.

        Records of one `kind` differ only in values; they are throttled together.
        """
        suppressed = self._throttle.admit((f"{logger}: {kind}",), self._now())
        if suppressed is not None:
            fields = {"logger": logger} if error is None else {"logger": logger, "error": error}
            self._write(level, text, _with_suppressed(fields, suppressed))

    # -- throttling --

    def tick(self) -> None:
        """Log the counts of suppressed and dropped lines; to be called every few seconds."""
        self._write_suppressed(self._now())
        times = 0 if self._dropped is None else self._dropped.take_dropped()
        if times:
            self._write("warning", "log lines dropped", {"times": times})

    @property
    def dropped(self) -> int:
        """How many lines were dropped because nobody reads the log."""
        return 0 if self._dropped is None else self._dropped.dropped

    def _write_suppressed(self, now: float) -> None:
        for key, suppressed in self._throttle.take_due(now):
            line, *about = key if isinstance(key, tuple) else (str(key),)
            fields = {"line": line, "about": [str(part) for part in about], "times": suppressed}
            self._write("info", "lines held back", fields)

    def _throttled(self, level: str, event: str, about: tuple[str, ...], **fields: Any) -> None:
        suppressed = self._throttle.admit((event, *about), self._now())
        if suppressed is not None:
            self._write(level, event, _with_suppressed(fields, suppressed))


def _with_suppressed(fields: Mapping[str, Any], suppressed: int) -> Mapping[str, Any]:
    return {**fields, "held_back": suppressed} if suppressed else fields


@lru_cache(maxsize=256)
def _trace_fields(traceparent: str | None) -> Mapping[str, str]:
    """The field, if it is a valid traceparent: the metadata of a run is written by its caller.

    Cached, because a run has one line for each of its clients.
    """
    if traceparent is None or TRACEPARENT.fullmatch(traceparent) is None:
        return {}
    return {"traceparent": traceparent}
