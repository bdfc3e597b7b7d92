"""EventLog: what this process says to its operators, as verbs; nothing else writes log lines.

The laws: a client's stream is one line, when it ends. No line holds a payload, a token or a ticket: the verbs
have no place for them. What can go wrong a thousand times a second is said once a minute, with how many times
it was held back (`Throttle`). A run's lines carry its ``traceparent``, so that they meet the run's own trace.

Where the lines go is passed in (`Write`); `EventLog()` writes nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from proxy.core.clock import LoopClock
from proxy.hatchet.errors import HatchetError
from proxy.observability.throttle import Throttle

Write = Callable[[str, str, Mapping[str, Any]], None]
"""Takes a level (debug, info, warning, error), the sentence and its fields; an exception may be a field."""

TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context, 3.2
MAX_PROBLEMS: Final = 10  # of a broken file: `stream-proxy check` shows all of them


def _nowhere(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Nobody reads."""


def _at_once() -> None:
    """Nothing waits."""


class EventLog:
    """The event log of one process; `now` is monotonic seconds."""

    def __init__(
        self,
        write: Write = _nowhere,
        *,
        flush: Callable[[], None] = _at_once,
        now: Callable[[], float] | None = None,
        quiet: Throttle | None = None,
    ) -> None:
        self._write = write
        self.flush: Final = flush  # what was said is out, when it returns
        self._now = now or LoopClock().now
        self._quiet = quiet or Throttle()

    # -- the process --

    def listening(self, *, url: str, admin_url: str | None, teams: int, streams: int, version: str) -> None:
        """The listener is open."""
        where = {"url": url} if admin_url is None else {"url": url, "admin_url": admin_url}
        self._write("info", "listening", {**where, "teams": teams, "streams": streams, "version": version})

    def draining(self, *, clients: int, grace: float) -> None:
        """A stop was asked for."""
        self._write("info", "draining", {"clients": clients, "grace": grace})

    def stopped(self, *, seconds: float, left: int) -> None:
        """All is closed; `left` clients had to be cut off. What was held back until now is told first."""
        self._tell_held(math.inf)
        self._write("warning" if left else "info", "stopped", {"seconds": round(seconds, 3), "cut_off": left})

    def notice(self, event: str, **fields: Any) -> None:
        """Something of the process that has no verb of its own; code writes it, no client can cause many."""
        self._write("info", event, fields)

    # -- a team's file --

    def reloaded(self, team: str, *, seconds: float) -> None:
        """A new version of a team's file is live."""
        self._write("info", "reloaded", {"team": team, "seconds": round(seconds, 3)})

    def reload_failed(self, team: str, problems: Sequence[str]) -> None:
        """A team's file is broken, or one of its tests fails: the last good version stays."""
        shown = list(problems[:MAX_PROBLEMS])
        self._write("error", "reload failed", {"team": team, "found": len(problems), "problems": shown})

    def remarks(self, problems: Sequence[str]) -> None:
        """What `check` has to say about files that are live all the same."""
        if problems:
            shown = list(problems[:MAX_PROBLEMS])
            self._write("warning", "check has remarks", {"found": len(problems), "problems": shown})

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
    ) -> None:
        """One client's stream ended: the one line of its life."""
        fields: dict[str, Any] = {
            "team": team,
            "stream": stream,
            "run": run,
            "client": client,
            "seconds": round(seconds, 3),
            "frames": frames,
            "ending": ending,
        }
        if traceparent is not None:
            fields.update(_traced(traceparent))
        self._write("info", "stream over", fields)

    def refused(self, team: str, stream: str, reason: str) -> None:
        """A request got no stream; quiet, because whoever is refused comes back."""
        self._quietly("info", "refused", (team, stream, reason), team=team, stream=stream, reason=reason)

    def rule_failed(self, team: str, stream: str, rule: str, event: str, reason: str) -> None:
        """An expression failed on an event of this type; `reason` never holds a value."""
        fields = {"team": team, "stream": stream, "rule": rule, "on": event, "reason": reason}
        self._quietly("warning", "rule failed", (team, stream, rule), **fields)

    # -- Hatchet --

    def trouble(
        self, team: str, error: HatchetError, *, run: str | None = None, traceparent: str | None = None
    ) -> None:
        """A call to Hatchet failed; one line a minute for each kind of error, whichever run it was."""
        of_run = {} if run is None else {"run": run, **_traced(traceparent)}
        kind = type(error).__name__
        self._quietly(
            "warning", "trouble with Hatchet", (team, kind), team=team, kind=kind, why=str(error), **of_run
        )

    def recovered(self, team: str, *, seconds: float) -> None:
        """Hatchet answers a team again, after so long."""
        self._quietly("info", "Hatchet answers again", (team,), team=team, seconds=round(seconds, 1))

    # -- what was not foreseen --

    def foreign(self, logger: str, level: str, text: str, kind: str, error: BaseException | None) -> None:
        """A library's line, asyncio's about a task of ours that died among them.

        Lines of one `kind` (those that differ in their values alone) share a turn.
        """
        held = self._quiet.ask((f"{logger}: {kind}",), self._now())
        if held is not None:
            fields = {"logger": logger} if error is None else {"logger": logger, "error": error}
            self._write(level, text, _with(fields, held))

    # -- quiet --

    def tick(self) -> None:
        """Tell what was held back and did not happen again; call it every few seconds."""
        self._tell_held(self._now())

    def _tell_held(self, now: float) -> None:
        for thing, held in self._quiet.due(now):
            line, *about = thing if isinstance(thing, tuple) else (str(thing),)
            fields = {"line": line, "about": [str(part) for part in about], "times": held}
            self._write("info", "held back", fields)

    def _quietly(self, level: str, event: str, about: tuple[str, ...], **fields: Any) -> None:
        held = self._quiet.ask((event, *about), self._now())
        if held is not None:
            self._write(level, event, _with(fields, held))


def _with(fields: Mapping[str, Any], held: int) -> Mapping[str, Any]:
    return {**fields, "held_back": held} if held else fields


def _traced(traceparent: str | None) -> dict[str, str]:
    """The field, where it is a traceparent at all: a run's metadata is its caller's."""
    if traceparent is None or TRACEPARENT.fullmatch(traceparent) is None:
        return {}
    return {"traceparent": traceparent}
