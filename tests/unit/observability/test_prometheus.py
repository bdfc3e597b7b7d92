"""What /metrics says: every count under a bounded name, in a form that Prometheus' own tool accepts."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from proxy.observability.counters import Counters, LogCounters, Undelivered
from proxy.observability.health import (
    ConfigHealth,
    ConfigState,
    Health,
    LimitHealth,
    SubscriptionHealth,
    TeamHealth,
    UpstreamHealth,
    UpstreamState,
)
from proxy.observability.metrics import FAMILIES, PREFIX
from proxy.observability.prometheus import render
from tests.support.tools import need


def busy() -> Counters:
    """Counters in which every number of a kind differs from zero."""
    counts = Counters()
    counts.loop_lag.observe(0.002, 3)
    counts.log_lines_dropped = 4
    counts.telemetry["traces"] = Undelivered(no_room=2, refused=3)
    counts.log = LogCounters(1, *range(1, 11))
    counts.log.errors["OOM"] += 7
    counts.log.latency.observe(0.0004, 2)
    team = counts.team("payments")
    team.events, team.runs, team.false_ends, team.late_chunks, team.backlog_bytes = 40, 2, 3, 1, 2048
    team.foreign_events, team.unforeseen, team.work_refused = 1, 2, 3
    for counter in (
        team.run_ends,
        team.subscriptions,
        team.lookups,
        team.troubles,
        team.refusals,
    ):
        counter["some"] += 7
    stream = team.stream("chat")
    stream.clients, stream.opened, stream.frames, stream.bytes, stream.resets = 3, 9, 500, 65536, 2
    for counter in (stream.forwarded, stream.rule_errors, stream.gaps, stream.ends):
        counter["some"] += 5
    stream.latency.observe(0.0004, 2)
    stream.latency.observe(0.3)
    stream.latency.observe(60.0)
    return counts


def well(
    upstream: UpstreamState = UpstreamState.REACHABLE, config: ConfigState = ConfigState.CURRENT
) -> Health:
    """One team, with reloads."""
    reloads = ConfigHealth(config, reloads={"ok": 7}, reloaded_at=1_790_000_000.0, reload_seconds=0.25)
    return Health(
        0.0,
        "1.2.3",
        teams=(
            TeamHealth(
                "payments",
                UpstreamHealth(upstream),
                reloads,
                SubscriptionHealth(8, 9, 3),
                limits={"connections": LimitHealth(limit=100, used=7, refused=2, last=1_790_000_000.0)},
            ),
        ),
        log=UpstreamHealth(UpstreamState.REACHABLE),
    )


def samples(counts: Counters, health: Health | None = None) -> dict[str, float]:
    """Every sample as it stands in the text, to its number."""
    body, _ = render(counts, health)
    lines = [line for line in body.decode().splitlines() if line.startswith(PREFIX)]
    return {name: float(number) for name, number in (line.rsplit(" ", 1) for line in lines)}


def test_the_gauge_of_clients_has_the_promised_name_and_labels() -> None:
    assert samples(busy())['stream_proxy_clients{stream="chat",team="payments"}'] == 3


def test_every_family_shows_the_number_that_was_counted() -> None:
    scraped = samples(busy())
    for family in FAMILIES:
        name = PREFIX + family.name + ("_total" if family.kind == "counter" else "")
        found = [number for sample, number in scraped.items() if sample.split("{")[0] == name]
        assert found, name
        assert all(found), name


def test_counters_by_cause_carry_it_as_a_label() -> None:
    counts = Counters()
    counts.team("a").stream("s").gaps.update(upstream=2, slow_client=1)
    scraped = samples(counts)
    assert scraped['stream_proxy_gaps_total{cause="upstream",stream="s",team="a"}'] == 2
    assert scraped['stream_proxy_gaps_total{cause="slow_client",stream="s",team="a"}'] == 1


def test_the_latency_histogram_sums_its_buckets_up() -> None:
    scraped = samples(busy())
    name, labels = "stream_proxy_delivery_latency_seconds", 'stream="chat",team="payments"'
    assert scraped[f'{name}_bucket{{le="0.001",{labels}}}'] == 2
    assert scraped[f'{name}_bucket{{le="0.5",{labels}}}'] == 3
    assert scraped[f'{name}_bucket{{le="+Inf",{labels}}}'] == 4
    assert scraped[f"{name}_count{{{labels}}}"] == 4
    assert abs(scraped[f"{name}_sum{{{labels}}}"] - 60.3008) < 1e-9


def test_no_label_is_one_that_grows_with_the_traffic() -> None:
    body, _ = render(busy(), well())
    names = {
        label
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith(PREFIX)
        for label in sample.labels
    }
    closed = {"rule", "cause", "status", "ending", "kind", "error", "reason", "result", "le", "version"}
    closed |= {"signal"}  # of OpenTelemetry: traces, metrics
    closed |= {"limit"}  # the names of the configuration's limits, and two of the process
    assert names <= {"team", "stream"} | closed


def test_a_label_with_quotes_and_line_breaks_is_read_back_whole() -> None:
    counts = Counters()
    counts.team("a").stream("s").forwarded['a "rule"\nof two\\lines'] += 1
    body, _ = render(counts)
    rules = [
        sample.labels["rule"]
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if "rule" in sample.labels
    ]
    assert rules == ['a "rule"\nof two\\lines']


def test_the_health_of_teams_is_shown_as_gauges() -> None:
    scraped = samples(Counters(), well(UpstreamState.AWAY, ConfigState.LAST_GOOD))
    assert scraped['stream_proxy_upstream_up{team="payments"}'] == 0
    assert scraped['stream_proxy_config_current{team="payments"}'] == 0
    assert scraped["stream_proxy_draining"] == 0
    assert samples(Counters(), well())['stream_proxy_upstream_up{team="payments"}'] == 1


def test_the_reloads_of_a_team_are_counted_by_result_and_dated() -> None:
    scraped = samples(Counters(), well())
    assert scraped['stream_proxy_reloads_total{result="ok",team="payments"}'] == 7
    assert scraped['stream_proxy_last_reload_timestamp_seconds{team="payments"}'] == 1_790_000_000.0
    assert scraped['stream_proxy_last_reload_duration_seconds{team="payments"}'] == 0.25


def test_the_use_of_the_subscription_limit_is_shown_for_each_team() -> None:
    shown = samples(Counters(), well())
    assert shown['stream_proxy_subscriptions{team="payments"}'] == 8
    assert shown['stream_proxy_subscriptions_limit{team="payments"}'] == 9
    assert shown['stream_proxy_state_only_runs{team="payments"}'] == 3


def test_each_scrape_reads_again_and_leaves_nothing_behind() -> None:
    counts = Counters()
    clients = 'stream_proxy_clients{stream="s",team="a"}'
    assert clients not in samples(counts)
    counts.team("a").stream("s").clients = 5
    assert samples(counts)[clients] == 5


def test_openmetrics_is_given_to_those_who_ask_for_it() -> None:
    body, content_type = render(Counters(), accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert render(Counters())[1].startswith("text/plain")


def test_promtool_finds_nothing_to_complain_about() -> None:
    promtool = need("promtool")
    body, _ = render(busy(), well())
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_prometheus_client_is_imported_by_the_first_scrape_only() -> None:
    program = (
        "import sys; from proxy.observability.counters import Counters;"
        "from proxy.observability.prometheus import render;"
        "before = 'prometheus_client' in sys.modules; render(Counters());"
        "print(before, 'prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
