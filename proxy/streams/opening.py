"""Makes the channel and the dispatcher of a stream on a run, or on several runs that it merges."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.core.events import Event
from proxy.formats.machine import Facts
from proxy.formats.wire import SSE, machine_of
from proxy.log.cursor import CursorSource
from proxy.observability.counters import TeamCounters
from proxy.streams.backlog import Backlog, Frame
from proxy.streams.channel import Channel
from proxy.streams.dispatcher import Dispatcher
from proxy.streams.stream import LiveStream


def open_dispatcher(
    stream: LiveStream,
    ids: CursorSource,
    run_id: str,
    value: str,
    *,
    counts: TeamCounters,
    grew: Callable[[int], None],
    rebuild: Callable[[], Coroutine[Any, Any, list[Event]]],
    unforeseen: Callable[[Exception], None] | None,
    merged: bool = False,
) -> Dispatcher:
    """An empty channel of `stream`, with its dispatcher.

    `value` is what a metadata path holds, empty for other paths. `grew` is called with every change of the
    bytes that are held. `rebuild` reads all lifecycle events from the current states. `merged`: the items
    will be those of several runs.
    """
    config = stream.config
    machine = None
    if config.format != SSE:
        created = int(time.time()) if ids.created is None else ids.created
        facts = Facts(run_id, value or run_id, config.name, ids.salt, created)
        machine = machine_of(config.format, facts, hold=config.hold, failed=stream.rules.failed)
    channel = Channel(
        stream.rules,
        ids,
        Backlog[Frame](config.backlog.events, config.backlog.bytes, grew),
        counts.stream(config.name),
        rebuild=rebuild,
        unforeseen=unforeseen,
        wire=stream.wire,
        machine=machine,
        grew=grew,
        merged=merged,
    )
    return Dispatcher(channel, heartbeat=config.heartbeat)
