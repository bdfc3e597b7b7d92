"""Renders `Counters` and `Health` for ``/metrics`` at the time of the scrape; owns and counts nothing itself.

`FAMILIES` and `HEALTH_GAUGES` are tables of what is exposed. Labels are team, stream, rule and a few closed
sets (cause, kind, status …), never a run, a client or a path, so the configuration bounds the
number of series. A test checks that the dashboard and the alert rules in ``deploy/`` use only these tables.

`render` may run in a thread of its own: it copies each table before it iterates over it. prometheus_client is
imported at the first scrape, so a sidecar that is never scraped does not load it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from proxy import __version__
from proxy.observability.counters import Counters, Histogram, LogCounters, StreamCounters, TeamCounters
from proxy.observability.health import Health, LimitHealth, TeamHealth, UpstreamState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

PREFIX: Final = "stream_proxy_"

Row = tuple[tuple[str, ...], float]
HistogramRow = tuple[tuple[str, ...], Histogram]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without `PREFIX` (and a counter's ``_total``), and how its rows are read."""

    name: str
    kind: str  # counter | gauge
    meaning: str
    labels: tuple[str, ...]
    rows: Callable[[Counters], Iterable[Row]]


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

FAMILIES: Final = (
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

# -- to Prometheus --


def render(counts: Counters, health: Health | None = None, *, accept: str = "") -> tuple[bytes, str]:
    """The scrape's body and its content type, as the request's Accept asks for."""
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above

    encode, content_type = choose_encoder(accept)
    return encode(registry_of(counts, health)), content_type


def registry_of(counts: Counters, health: Health | None = None) -> CollectorRegistry:
    """Everything that is exposed, for one scrape, or for one export by OTLP."""
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - see above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ScrapeCollector(counts, health))
    ProcessCollector(registry=registry)
    return registry


class _ScrapeCollector:
    """A collector of prometheus_client, for one scrape."""

    def __init__(self, counts: Counters, health: Health | None) -> None:
        self._counts = counts
        self._health = health

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _metric(family.name, family.kind, family.meaning, family.labels, family.rows(self._counts))
        yield _metric("build_info", "gauge", "The version that runs.", ("version",), [((__version__,), 1)])
        latency = [((team, name), stream.latency) for team, name, stream in _streams(self._counts)]
        yield _histogram(
            "delivery_latency_seconds", "From the arrival of an event to the socket.", STREAM, latency
        )
        if self._counts.log.used:
            yield _histogram(
                "shared_log_append_seconds",
                "From an append to the shared log to its acknowledgement.",
                (),
                [((), self._counts.log.latency)],
            )
        yield _histogram(
            "loop_lag_seconds", "How late the event loop was.", (), [((), self._counts.loop_lag)]
        )
        yield _histogram(
            "collector_pause_seconds",
            "How long garbage collections stopped the event loop.",
            (),
            [((), self._counts.collector_pauses)],
        )
        yield from _of_health(self._health)


def _of_health(health: Health | None) -> Iterator[Metric]:
    if health is None:
        return
    if health.log.state is not UpstreamState.OFF:
        up = [((), float(health.log.is_fine))]
        yield _metric("shared_log_up", "gauge", "0 while the shared log cannot be reached.", (), up)
    teams = [((team.name,), team) for team in health.teams]
    yield _metric("draining", "gauge", "1 while this replica is draining.", (), [((), health.draining)])
    for name, meaning, read in HEALTH_GAUGES:
        yield _metric(name, "gauge", meaning, TEAM, [(labels, read(team)) for labels, team in teams])
    reloads = [
        ((team.name, result), number)
        for team in health.teams
        for result, number in team.config.reloads.items()
    ]
    yield _metric("reloads", "counter", "Reloads of a team's file.", (*TEAM, "result"), reloads)
    for name, kind, meaning, value in LIMIT_METRICS:
        rows = [
            ((team.name, limit), float(number))
            for team in health.teams
            for limit, state in team.limits.items()
            if (number := value(state)) is not None
        ]
        yield _metric(name, kind, meaning, (*TEAM, "limit"), rows)


LIMIT_METRICS: Final[tuple[tuple[str, str, str, Callable[[LimitHealth], int | None]], ...]] = (
    ("limit", "gauge", "A team's configured limits.", lambda limit: limit.limit),
    (
        "limit_used",
        "gauge",
        "How much of a limit is used now; of one for each run or subject, by the fullest.",
        lambda limit: limit.used,
    ),
    (
        "limit_refusals",
        "counter",
        "Clients turned away because a limit was reached.",
        lambda limit: limit.refused,
    ),
)


HEALTH_GAUGES: Final[tuple[tuple[str, str, Callable[[TeamHealth], float]], ...]] = (
    ("upstream_up", "0 while Hatchet does not answer this team.", lambda t: float(t.upstream.is_fine)),
    (
        "history_up",
        "0 while the REST history gives no usable answer.",
        lambda t: float(t.history.is_fine),
    ),
    ("issuer_up", "0 while the keys of this team's issuer cannot be had.", lambda t: float(t.issuer.is_fine)),
    ("config_current", "0 while a team's file is broken.", lambda t: float(t.config.is_fine)),
    ("subscriptions", "Runs that have subscriptions of their own now.", lambda t: t.subscriptions.used),
    (
        "subscriptions_limit",
        "Its limit: hatchet.subscriptions.",
        lambda t: t.subscriptions.limit,
    ),
    (
        "state_only_runs",
        "Runs followed without chunks, because the limit is reached.",
        lambda t: t.subscriptions.state_only,
    ),
    (
        "last_reload_timestamp_seconds",
        "Unix time of the last good reload.",
        lambda t: t.config.reloaded_at,
    ),
    (
        "last_reload_duration_seconds",
        "How long the last reload took, tests included.",
        lambda t: t.config.reload_seconds,
    ),
)


def _metric(name: str, kind: str, meaning: str, labels: tuple[str, ...], rows: Iterable[Row]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    metric = made(PREFIX + name, meaning, labels=labels)
    for values, number in rows:
        metric.add_metric(values, number)
    return metric


def _histogram(name: str, meaning: str, labels: tuple[str, ...], rows: Iterable[HistogramRow]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    metric = HistogramMetricFamily(PREFIX + name, meaning, labels=labels)
    for values, histogram in rows:
        bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
        sums = accumulate(float(bucket) for bucket in histogram.buckets)
        metric.add_metric(values, list(zip(bounds, sums, strict=True)), sum_value=histogram.total)
    return metric
