"""The metrics that are counted: name, kind, sentence, labels, and where in `Counters` the numbers are.

Labels are team, stream, rule and a few closed sets (cause, kind, status …), never a run, a client or a path,
so the configuration bounds the number of series. Tests check that ``docs/metrics.md``, the dashboard and the
alert rules in ``deploy/`` use only these tables and those of `proxy.observability.health_metrics`.

The rows may be read in a thread of its own: each table is copied before it is iterated over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from msgspec import Struct

from proxy.observability.counters import Counters, Histogram, LogCounters, StreamCounters, TeamCounters

PREFIX: Final = "stream_proxy_"

Source = TypeVar("Source")
Row = tuple[tuple[str, ...], float]
HistogramRow = tuple[tuple[str, ...], Histogram]


class Family(Struct, Generic[Source], frozen=True):
    """One metric: its name without `PREFIX` (and a counter's ``_total``), and how its rows are read."""

    name: str
    kind: str  # counter | gauge
    meaning: str
    labels: tuple[str, ...]
    rows: Callable[[Source], Iterable[Row]]


class HistogramFamily(Struct, frozen=True):
    """One histogram, named like a `Family`."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    rows: Callable[[Counters], Iterable[HistogramRow]]


# -- how the numbers are read --


def _of_team(read: Callable[[TeamCounters], float]) -> Callable[[Counters], Iterator[Row]]:
    return lambda counts: (((team,), read(its)) for team, its in list(counts.teams.items()))


def _by_team(read: Callable[[TeamCounters], Counter[str]]) -> Callable[[Counters], Iterator[Row]]:
    return lambda counts: (
        ((team, key), number)
        for team, its in list(counts.teams.items())
        for key, number in list(read(its).items())
    )


def _streams(counts: Counters) -> Iterator[tuple[str, str, StreamCounters]]:
    for team, its in list(counts.teams.items()):
        for name, stream in list(its.streams.items()):
            yield team, name, stream


def _of_stream(read: Callable[[StreamCounters], float]) -> Callable[[Counters], Iterator[Row]]:
    return lambda counts: (((team, name), read(stream)) for team, name, stream in _streams(counts))


def _by_stream(read: Callable[[StreamCounters], Counter[str]]) -> Callable[[Counters], Iterator[Row]]:
    return lambda counts: (
        ((team, name, key), number)
        for team, name, stream in _streams(counts)
        for key, number in list(read(stream).items())
    )


def _of_log(read: Callable[[LogCounters], float]) -> Callable[[Counters], Iterator[Row]]:
    """A number of the shared log; no row where there is none."""
    return lambda counts: (((), float(read(counts.log))) for _ in range(min(1, counts.log.used)))


TEAM: Final = ("team",)
STREAM: Final = ("team", "stream")

FAMILIES: Final[tuple[Family[Counters], ...]] = (
    # one stream of a team
    Family("clients", "gauge", "Open streams of clients.", STREAM, _of_stream(lambda s: s.clients)),
    Family("streams_opened", "counter", "Streams opened by clients.", STREAM, _of_stream(lambda s: s.opened)),
    Family(
        "stream_ends",
        "counter",
        "How clients' streams ended.",
        (*STREAM, "ending"),
        _by_stream(lambda s: s.ends),
    ),
    Family(
        "frames",
        "counter",
        "Frames sent; a frame to two clients counts twice.",
        STREAM,
        _of_stream(lambda s: s.frames),
    ),
    Family(
        "sent_bytes", "counter", "Bytes sent, before HTTP framing.", STREAM, _of_stream(lambda s: s.bytes)
    ),
    Family(
        "forwarded",
        "counter",
        "Events that a rule forwarded.",
        (*STREAM, "rule"),
        _by_stream(lambda s: s.forwarded),
    ),
    Family(
        "rule_errors",
        "counter",
        "Events on which an expression of a rule failed.",
        (*STREAM, "rule"),
        _by_stream(lambda s: s.rule_errors),
    ),
    Family("gaps", "counter", "Gaps sent to clients.", (*STREAM, "cause"), _by_stream(lambda s: s.gaps)),
    Family(
        "resets",
        "counter",
        "Attempts that began again, sent to clients.",
        STREAM,
        _of_stream(lambda s: s.resets),
    ),
    # the process
    Family(
        "log_lines_dropped",
        "counter",
        "Log lines dropped because nobody reads the log.",
        (),
        lambda counts: [((), counts.log_lines_dropped)],
    ),
    Family(
        "telemetry_dropped",
        "counter",
        "Spans, and exports of metrics, that no OpenTelemetry collector took.",
        ("signal",),
        lambda counts: (((signal,), its.total) for signal, its in list(counts.telemetry.items())),
    ),
    # the log that replicas share
    Family(
        "shared_log_runs_leading",
        "gauge",
        "Runs that this replica leads.",
        (),
        _of_log(lambda log: log.leading),
    ),
    Family(
        "shared_log_runs_following",
        "gauge",
        "Runs that this replica serves from the log of another one.",
        (),
        _of_log(lambda log: log.following),
    ),
    Family(
        "shared_log_runs_local",
        "gauge",
        "Runs served without the shared log.",
        (),
        _of_log(lambda log: log.local),
    ),
    Family("shared_log_appended", "counter", "Events appended.", (), _of_log(lambda log: log.appended)),
    Family("shared_log_appended_bytes", "counter", "Bytes of appends.", (), _of_log(lambda log: log.bytes)),
    Family(
        "shared_log_received",
        "counter",
        "Events received from other leaders.",
        (),
        _of_log(lambda log: log.received),
    ),
    Family(
        "shared_log_refused_appends",
        "counter",
        "Appends that were refused because another replica had taken the lead.",
        (),
        _of_log(lambda log: log.refused),
    ),
    Family(
        "shared_log_failed_appends",
        "counter",
        "Appends that the log could not store, as its memory was full.",
        (),
        _of_log(lambda log: log.unusable),
    ),
    Family(
        "shared_log_take_overs",
        "counter",
        "Runs that this replica has taken over from another one.",
        (),
        _of_log(lambda log: log.take_overs),
    ),
    Family(
        "shared_log_leads_lost",
        "counter",
        "Runs that another replica has taken over from this one.",
        (),
        _of_log(lambda log: log.leads_lost),
    ),
    Family(
        "shared_log_errors",
        "counter",
        "Errors that the shared log answered, by their code.",
        ("error",),
        lambda counts: [((code,), number) for code, number in list(counts.log.errors.items())],
    ),
    # one team
    Family("runs", "gauge", "Runs followed or kept now.", TEAM, _of_team(lambda t: t.runs)),
    Family(
        "run_ends", "counter", "Verified ends of runs.", (*TEAM, "status"), _by_team(lambda t: t.run_ends)
    ),
    Family("backlog_bytes", "gauge", "Bytes kept in backlogs.", TEAM, _of_team(lambda t: t.backlog_bytes)),
    Family(
        "events",
        "counter",
        "Events of runs, after they were put in order.",
        TEAM,
        _of_team(lambda t: t.events),
    ),
    Family(
        "upstream_subscriptions",
        "gauge",
        "Subscriptions open at Hatchet now.",
        (*TEAM, "kind"),
        _by_team(lambda t: t.subscriptions),
    ),
    Family(
        "state_lookups", "counter", "Reads of runs' state.", (*TEAM, "kind"), _by_team(lambda t: t.lookups)
    ),
    Family(
        "upstream_troubles",
        "counter",
        "Calls to Hatchet that failed, by the error's name.",
        (*TEAM, "error"),
        _by_team(lambda t: t.troubles),
    ),
    Family(
        "false_ends",
        "counter",
        "Ends of runs that the run's state did not confirm.",
        TEAM,
        _of_team(lambda t: t.false_ends),
    ),
    Family(
        "late_chunks", "counter", "Chunks after the verified end.", TEAM, _of_team(lambda t: t.late_chunks)
    ),
    Family(
        "work_refused",
        "counter",
        "Events that a stream's rules could not work on, because the team's allowance was used up.",
        TEAM,
        _of_team(lambda t: t.work_refused),
    ),
    Family(
        "foreign_events",
        "counter",
        "Events of other runs on a subscription by run id, dropped.",
        TEAM,
        _of_team(lambda t: t.foreign_events),
    ),
    Family(
        "unforeseen_errors",
        "counter",
        "Exceptions that should not be possible, contained: please report them.",
        TEAM,
        _of_team(lambda t: t.unforeseen),
    ),
    Family(
        "refusals",
        "counter",
        "Requests answered without a stream.",
        (*TEAM, "reason"),
        _by_team(lambda t: t.refusals),
    ),
)


def _latencies(counts: Counters) -> Iterator[HistogramRow]:
    return (((team, name), stream.latency) for team, name, stream in _streams(counts))


def _log_latencies(counts: Counters) -> list[HistogramRow]:
    return [((), counts.log.latency)] if counts.log.used else []


def _log_lags(counts: Counters) -> list[HistogramRow]:
    return [((), counts.log.lag)] if counts.log.used else []


HISTOGRAMS: Final = (
    HistogramFamily(
        "delivery_latency_seconds", "From the arrival of an event to the socket.", STREAM, _latencies
    ),
    HistogramFamily(
        "shared_log_append_seconds",
        "From an append to the shared log to its acknowledgement.",
        (),
        _log_latencies,
    ),
    HistogramFamily(
        "shared_log_lag_seconds",
        "How far received events were behind the shared log, measured every two seconds.",
        (),
        _log_lags,
    ),
    HistogramFamily(
        "loop_lag_seconds", "How late the event loop was.", (), lambda counts: [((), counts.loop_lag)]
    ),
    HistogramFamily(
        "collector_pause_seconds",
        "How long garbage collections stopped the event loop.",
        (),
        lambda counts: [((), counts.collector_pauses)],
    ),
)
