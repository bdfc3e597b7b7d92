"""Makes the channel, the dispatcher and the cursors of a stream on a run, or on several runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.core.events import Event
from proxy.formats.machine import Facts
from proxy.formats.wire import SSE, machine_of
from proxy.log.fences import Fences
from proxy.log.frames import Frames, LocalFrames
from proxy.log.shared_frames import SharedFrames
from proxy.observability.counters import TeamCounters
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.stream import LiveStream


def open_dispatcher(
    stream: LiveStream,
    ids: Frames,
    run_id: str,
    value: str,
    *,
    counts: TeamCounters,
    grew: Callable[[int], None],
    rebuild: Callable[[], Coroutine[Any, Any, list[Event]]],
    unforeseen: Callable[[Exception], None] | None,
    merged: bool = False,
    ask_flush: Callable[[int], None] | None = None,
) -> Dispatcher:
    """An empty channel of `stream`, with its dispatcher.

    `value` is what a metadata path holds, empty for other paths. `grew` is called with every change of the
    bytes that are held. `rebuild` reads all lifecycle events from the current states. `merged`: the items
    will be those of several runs. `ask_flush`: see `Dispatcher`.
    """
    config = stream.config
    machine = None
    if config.format != SSE:
        created = int(time.time()) if ids.created is None else ids.created
        facts = Facts(run_id, value or run_id, config.name, ids.salt, created)
        machine = machine_of(config.format, facts, hold=config.hold, failed=stream.rules.failed)
    backlog: Backlog[Frame] = Backlog(config.backlog.events, config.backlog.bytes, grew)
    channel = Channel(
        stream.rules,
        ids,
        backlog,
        counts.stream(config.name),
        rebuild=rebuild,
        unforeseen=unforeseen,
        wire=stream.wire,
        machine=machine,
        grew=grew,
        merged=merged,
    )
    return Dispatcher(channel, heartbeat=config.heartbeat, ask_flush=ask_flush)


class RunCursors:
    """Makes the cursors of a run's channels.

    They are numbers of this process's frames, or, once `share` was called, positions in the log that replicas
    share.
    """

    __slots__ = ("_channels_made", "_fences", "_run_id", "_secret", "_session", "_team")

    def __init__(self, run_id: str, session: int, *, team: str, secret: bytes) -> None:
        """`session` distinguishes the sessions of a run in this process, `secret` is the key."""
        self._run_id = run_id
        self._session = session
        self._team = team
        self._secret = secret
        self._fences: Fences | None = None
        self._channels_made = 0

    def share(self, fences: Fences) -> None:
        """From now on cursors are positions in a shared log with these fences."""
        self._fences = fences

    def of_channel(self, stream: LiveStream, value: str, *, first: int) -> Frames:
        """The cursors of a new channel.

        `value` is what the metadata path has for this run; `first` the position of the first item that is
        kept.
        """
        name, rules = stream.config.name, stream.rules.fingerprint
        if self._fences is None:
            self._channels_made += 1
            # Merged frames depend on when chunks came: another channel with the same rules has others.
            made = f" {self._channels_made}" if stream.rules.merges else ""
            return LocalFrames(
                self._secret,
                team=self._team,
                stream=name,
                run_id=self._run_id,
                value=value,
                rules=rules + made,
                session=self._session,
            )
        # frames that depend on items which this replica never had are not those of other replicas
        depends = stream.config.format != SSE or stream.rules.repairs_texts
        variant = f"from {first}" if depends and first > 1 else ""
        return SharedFrames(
            self._fences,
            team=self._team,
            stream=name,
            run_id=self._run_id,
            value=value,
            rules=rules,
            variant=variant,
        )
