"""One run as the console shows it: its items in order, who reads it, and what each rule made of an event.

A run that is followed in this process is shown as it came. Any other run is read from Hatchet once, and has
only what its state says: lifecycle events, and no chunks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.core import json_codec
from proxy.core.events import End, Event, Item, Reset, StepGap
from proxy.hatchet.errors import HatchetError
from proxy.rules.ruleset import RuleVerdict
from proxy.runs.reconcile.rebuild import rebuild
from proxy.streams.format_preview import FormatPreview
from proxy.streams.run_session import RunSession
from proxy.streams.session import Session
from proxy.streams.stream import LiveStream
from proxy.teams.team import Team

PAGE: Final = 500
"""Items in one answer; the page asks for those that follow."""
MOST_SHOWN: Final = 64 << 10
"""Characters of a payload that are shown: the page stays quick with a payload of megabytes."""
DECIDING: Final = 0.02
"""Seconds for which an answer decides which rule took each event. Events beyond that are decided when they
are opened: the rules of a team run in the loop that serves everybody."""


@dataclass(frozen=True, slots=True)
class RunView:
    """The items of a run with their numbers, and its session where it is followed here."""

    team: Team
    run_id: str
    items: Sequence[tuple[int, Item]]
    session: RunSession | None

    def item(self, number: int) -> Item | None:
        """The item with this number."""
        return next((item for each, item in self.items if each == number), None)


def followed_view(team: Team, run_id: str, after: int = 0) -> RunView | None:
    """What is kept of a run after item `after`; None where it is not followed in this process."""
    session = team.runs.get(run_id)
    return None if session is None else RunView(team, run_id, session.retained(after), session)


async def view_from_state(team: Team, run_id: str, after: int = 0) -> RunView:
    """What Hatchet says of a run that nobody follows. Raises RunUnknown and every other HatchetError."""
    core = await team.upstream.core(run_id)
    try:
        past = await team.upstream.past(run_id) if team.upstream.has_history else None
    except HatchetError:
        past = None  # the core state alone has most of it
    items = list(enumerate(rebuild(core, past), 1))
    return RunView(team, run_id, [each for each in items if each[0] > after], None)


def run_as_json(view: RunView, readers: Iterable[Session], *, shown: bool) -> dict[str, Any]:
    """The run with at most `PAGE` items; `shown`: payloads and metadata too."""
    session, page = view.session, view.items[:PAGE]
    found: dict[str, Any] = {
        "team": view.team.name,
        "run": view.run_id,
        "followed": session is not None,
        "payloads": shown,
        "streams": [
            {"name": name, "path": stream.config.path, "format": stream.config.format}
            for name, stream in view.team.streams.items()
        ],
        "more": len(view.items) > PAGE,
        "items": _items(page, list(view.team.streams.values()), shown=shown),
    }
    if session is not None:
        found |= _session_as_json(session, readers, shown=shown)
    return found


def _session_as_json(session: RunSession, readers: Iterable[Session], *, shown: bool) -> dict[str, Any]:
    state, trouble = session.state, session.run.trouble
    metadata: Mapping[str, Any] = {} if state is None else state.metadata
    return {
        "status": session.status or ("unknown" if state is None else state.status.name.lower()),
        "over": session.over,
        "sources": session.run.sources,
        "state_only": session.run.state_only,
        "trouble": None if trouble is None else str(trouble),
        "evicted": session.evicted,
        "bytes": session.bytes,
        "metadata": dict(metadata) if shown else sorted(metadata),
        "clients": [_client(each) for each in readers if each.run is session],
    }


def _client(session: Session) -> dict[str, Any]:
    subscriber = session.subscriber
    return {
        "stream": session.stream,
        "client": session.client,
        "seconds": round(session.seconds, 1),
        "frames": subscriber.frames,
        "behind": subscriber.channel.backlog.last - subscriber.place,
        "paused": subscriber.paused_since is not None,
        "gaps": subscriber.gaps,
    }


def _items(
    page: Sequence[tuple[int, Item]], streams: Sequence[LiveStream], *, shown: bool
) -> list[dict[str, Any]]:
    until = time.monotonic() + DECIDING
    found = []
    for number, item in page:
        one = item_as_json(number, item, shown=shown)
        if isinstance(item, Event) and time.monotonic() < until:
            one["rules"] = {stream.config.name: _decider(stream.rules.verdicts(item)) for stream in streams}
        found.append(one)
    return found


def _decider(verdicts: Iterable[RuleVerdict]) -> dict[str, Any] | None:
    """The rule that took an event, and whether it became a message; None: no rule took it."""
    taken = next((each for each in verdicts if each.matched), None)
    return None if taken is None else {"rule": taken.rule, "sent": taken.message is not None}


def item_as_json(number: int, item: Item, *, shown: bool) -> dict[str, Any]:
    """One line of the run."""
    if isinstance(item, Event):
        size, text = _payload(item)
        event = {
            "n": number,
            "kind": "event",
            "type": item.type,
            "step": item.step,
            "attempt": item.attempt,
            "index": item.index,
            "at": item.at,
            "recovered": item.recovered,
            "bytes": size,
        }
        return {**event, "preview": text[:80]} if shown else event
    if isinstance(item, StepGap):
        return {"n": number, "kind": "gap", **item.data}
    if isinstance(item, Reset):
        return {"n": number, "kind": "reset", **item.data}
    return {"n": number, "kind": "end", "status": item.status}


def _payload(event: Event) -> tuple[int, str]:
    """The bytes and the text of an event's payload."""
    payload = event.payload
    if payload is None:
        return 0, ""
    text = payload if isinstance(payload, str) else json_codec.encode(payload).decode()
    return len(text.encode("utf-8", "surrogatepass")), text


def verdicts_as_json(
    number: int, item: Item, streams: Iterable[LiveStream], *, shown: bool
) -> dict[str, Any]:
    """One item, and why each stream sends it or not."""
    found = item_as_json(number, item, shown=shown)
    if not isinstance(item, Event):
        return {**found, "streams": [_notice(item, stream) for stream in streams]}
    size, text = _payload(item)
    if shown:
        found |= {"payload": text[:MOST_SHOWN], "cut": len(text) > MOST_SHOWN}
    found["given"] = {
        "type": item.type,
        **({} if item.step is None else {"step": item.step}),
        **({} if item.attempt is None else {"attempt": item.attempt}),
        **({} if item.index is None else {"index": item.index}),
        **({"payload": item.payload} if shown and size <= MOST_SHOWN else {}),
    }
    found["streams"] = [_decided(item, stream, shown=shown) for stream in streams]
    return found


def _notice(item: Item, stream: LiveStream) -> dict[str, Any]:
    """Whether a stream announces a gap, a reset or the end."""
    name, hidden = stream.config.name, stream.config.control == "off"
    step = item.step if isinstance(item, StepGap | Reset) else None
    if isinstance(item, End):
        why = "the verified end: every client gets it"
    elif step is not None and not stream.rules.forwards_chunks(step):
        return {"name": name, "sent": False, "why": f"no rule takes chunks of {step}", "rules": []}
    else:
        why = "clients of this stream may have missed chunks: it is announced"
    if hidden:
        why = "the stream has `control: off`: it is not announced"
    return {"name": name, "sent": not hidden, "why": why, "rules": []}


def _decided(event: Event, stream: LiveStream, *, shown: bool) -> dict[str, Any]:
    verdicts = stream.rules.verdicts(event)
    message = next((each.message for each in verdicts if each.message is not None), None)
    taken = any(each.matched for each in verdicts)
    why = "sent" if message is not None else "its rule failed" if taken else "no rule takes it"
    found: dict[str, Any] = {
        "name": stream.config.name,
        "sent": message is not None,
        "why": why,
        "rules": [verdict_as_json(each) for each in verdicts],
    }
    if message is not None:
        found["bytes"] = len(message.data)
        if shown:
            frame = FormatPreview(stream.config).message(event, message)
            found["frame"] = frame[:MOST_SHOWN].decode("utf-8", "replace")
    return found


def verdict_as_json(verdict: RuleVerdict) -> dict[str, Any]:
    """What one rule made of an event; its reasons never have a value."""
    if not verdict.asked:
        outcome = "not evaluated"
    elif not verdict.matched:
        outcome = "no match"
    else:
        outcome = "took it" if verdict.message is not None else "stopped it"
    return {"rule": verdict.rule, "outcome": outcome, "reasons": list(verdict.reasons)}
