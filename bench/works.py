"""The works: each measures its peers `repeat` times, interleaved, and returns a table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from load import load
from machine import NotReady
from peers import (
    BARE,
    LOWER_BOUND,
    NCHAN,
    OURS,
    PEERS,
    SSE_STARLETTE,
    TICKETED,
    TRACED,
    TUTORIAL,
    UVICORN,
    Need,
    Peer,
)
from table import Table

Work = Callable[[int], Table]
WARM, SECONDS = 1.0, 3.0
CPU = ("us_cpu_ev", "µs of its CPU per delivery", "{:.2f}")
LOST = ("lost", "lost or repeated", "{:.0f}")
RATE = ("ev_s", "events/s", "{:,.0f}")
PER_CORE = ("per_core", "events per second of CPU", "{:,.0f}")
P99 = ("p99_ms", "p99 ms", "{:.1f}")


def measure(peer: Peer, need: Need, **more: Any) -> dict[str, Any]:
    """One peer, newly started, under one load."""
    asked = {"conns": need.clients, "runs": need.runs, "warm": WARM, "dur": SECONDS, "timeout": 90}
    with peer.serve(need) as serving:
        found = load(**{**asked, **serving.options, **more})
    found["lost"] = found["gaps"] + found["dups"]
    found["p99_ms"], found["p50_ms"] = found["p99"] / 1e3, found["p50"] / 1e3
    found["per_core"] = 1e6 / found["us_cpu_ev"] if found["us_cpu_ev"] else 0.0
    return found


def _each(
    table: Table, peers: Sequence[Peer], repeat: int, figures: Callable[[Peer], dict[str, Any]]
) -> Table:
    for _ in range(repeat):
        for peer in peers:
            try:
                table.add(peer.name, figures(peer))
            except NotReady as error:
                print(f"{table.title}: {peer.name} could not: {str(error)[:300]}", flush=True)
    return table


def w1(repeat: int) -> Table:
    """Fan-out: one run, 1,000 clients, events of 200 bytes, a window of 8 in flight, as fast as possible."""
    table = Table("W1: one run to 1,000 clients", (PER_CORE, RATE, CPU, P99, LOST), OURS.name)
    return _each(table, PEERS, repeat, lambda peer: measure(peer, Need()))


def w1single(repeat: int) -> Table:
    """The same with one event in flight: nothing can be merged, so each event is one write per client."""
    table = Table("W1, one event at a time", (PER_CORE, RATE, CPU, P99, LOST), OURS.name)
    return _each(table, PEERS, repeat, lambda peer: measure(peer, Need(window=1)))


def w1burst(repeat: int) -> Table:
    """The same in bursts of 16, like a model's tokens after a pause."""
    table = Table("W1 in bursts of 16", (PER_CORE, RATE, CPU, P99, LOST), OURS.name)
    return _each(table, PEERS, repeat, lambda peer: measure(peer, Need(burst=16, window=64)))


def w1latency(repeat: int) -> Table:
    """p99 at half of the rate that each peer's CPU allows, one event at a time."""
    columns = (P99, ("p50_ms", "p50 ms", "{:.1f}"), RATE, ("srv_util", "of a core", "{:.2f}"), LOST)
    table = Table("W1: latency at half load", columns, OURS.name)

    def figures(peer: Peer) -> dict[str, Any]:
        most = measure(peer, Need(window=1))["per_core"]
        return measure(peer, Need(rate=most / 2 / 1000))

    return _each(table, PEERS, repeat, figures)


TOKENS: Final = Need(clients=1000, runs=500, rate=10_000.0)


def w2(repeat: int) -> Table:
    """Token streams: 500 runs, 2 clients each, 20 tokens/s per run: CPU per event with its two deliveries."""
    from receiving import receive  # noqa: PLC0415

    per_event = ("us_event", "µs of CPU per event", "{:.1f}")
    table = Table("W2: 500 runs × 2 clients × 20 tokens/s", (per_event, RATE, P99, LOST), OURS.name)

    def figures(peer: Peer) -> dict[str, Any]:
        found = measure(peer, TOKENS, settle=3, warm=4)
        found["us_event"] = found["us_cpu_ev"] * TOKENS.clients / TOKENS.runs
        return found

    for _ in range(repeat):
        for way in ("aio", "lean"):
            alone = receive(way, TOKENS, SECONDS)
            table.add(f"receiving alone ({way})", {**alone, "p99_ms": 0.0, "lost": 0})
        _each(table, (OURS, NCHAN, BARE, TUTORIAL), 1, figures)
    return table


def w3(repeat: int) -> Table:
    """10,000 idle clients of one run: memory per client, and the time for a round of heartbeats."""
    columns = (
        ("kb_client", "KB per client", "{:.2f}"),
        ("kernel_kb", "and in the kernel", "{:.2f}"),
        ("beat_p99_ms", "p99 ms of a round", "{:.0f}"),
        ("ramp_s", "s to connect all", "{:.1f}"),
    )
    table = Table("W3: 10,000 idle clients", columns, OURS.name)
    need = Need(clients=10_000, heartbeat=5, fed=False)

    def figures(peer: Peer) -> dict[str, Any]:
        found = measure(peer, need, mode="idle", dur=12, timeout=120)
        found["kb_client"] = (found["pss1_kb"] - found["pss_base_kb"]) / need.clients
        found["kernel_kb"] = (found["tcpmem1_kb"] - found["tcpmem_base_kb"]) / need.clients
        found["beat_p99_ms"] = found.get("beat_p99", 0) / 1e3
        return found

    return _each(table, (OURS, NCHAN, BARE, TUTORIAL, SSE_STARLETTE), repeat, figures)


def w4(repeat: int) -> Table:
    """Connects per second, until the first byte of the answer; 64 at a time, 16 runs."""
    columns = (
        ("conn_core", "connects per second of CPU", "{:,.0f}"),
        ("conn_s", "connects/s", "{:,.0f}"),
        ("ttfe_p99_ms", "p99 ms to the first byte", "{:.1f}"),
    )
    table = Table("W4: connects", columns, OURS.name)
    need = Need(clients=64, runs=16, fed=False)

    def figures(peer: Peer) -> dict[str, Any]:
        found = measure(peer, need, mode="churn", churnhdr=1, maxinfl=64, srcs=8)
        found["conn_core"] = 1e6 / found["us_cpu_conn"] if found["us_cpu_conn"] else 0.0
        found["ttfe_p99_ms"] = found["ttfe_p99"] / 1e3
        return found

    return _each(table, (*PEERS, TICKETED, UVICORN, LOWER_BOUND), repeat, figures)


def w5(repeat: int) -> Table:
    """100 of 1,000 clients stop reading, at half load: their memory, and the latency of the others."""
    columns = (
        P99,
        ("mb_slow", "MB per stuck client", "{:.3f}"),
        ("kernel_mb", "and in the kernel", "{:.3f}"),
        LOST,
        RATE,
    )
    table = Table("W5: 100 of 1,000 stop reading", columns, f"{OURS.name}, 100 stuck")

    def figures(peer: Peer, slow: float) -> dict[str, Any]:
        reading = int(1000 * (1 - slow))
        found = measure(peer, Need(rate=50.0, payload=1024, reading=reading), slow=slow, dur=6)
        stuck = max(1, 1000 - reading)
        found["mb_slow"] = max(0, found["pss_peak_kb"] - found["pss0_kb"]) / 1024 / stuck if slow else 0.0
        found["kernel_mb"] = (found["tcpmem1_kb"] - found["tcpmem_base_kb"]) / 1024 / stuck if slow else 0.0
        return found

    for _ in range(repeat):
        for peer in (OURS, NCHAN):
            for slow in (0.0, 0.1):
                try:
                    name = f"{peer.name}, {'100 stuck' if slow else 'none stuck'}"
                    table.add(name, figures(peer, slow))
                except NotReady as error:
                    print(f"w5: {peer.name} could not: {str(error)[:300]}", flush=True)
    return table


ORDER: Final = (
    '{"order":{"id":7,"total":99.5,"currency":"EUR"},"items":['
    + ",".join(f'{{"name":"item {n}","price":{n},"tags":["a","b"]}}' for n in range(16))
    + '],"note":"'
    + "x" * 100
    + '"}'
)
FIVE_RULES: Final = """    rules:
      - {events: step_started, data: step}
      - {events: step_stream, steps: generate_*, data: payload}
      - {events: step_stream, payload: json, when: 'payload.order.total < `10`', data: payload}
      - events: step_stream
        payload: json
        when: 'payload.order.total > `10`'
        data: {n: payload.n, t: payload.t, order: payload.order.id, total: payload.order.total,
               first: 'payload.items[0].name', run: run_id}
      - {events: ['*', step_stream], data: {type: type}}
"""


def w6(repeat: int) -> Table:
    """Upstream: 1 KB of JSON, five rules, six expressions; 200 runs; without delivery, then with clients."""
    from lingering import linger  # noqa: PLC0415
    from receiving import receive  # noqa: PLC0415

    per_event = ("us_event", "µs of CPU per event", "{:.1f}")
    title, work = "W6: received, matched, shaped, encoded, logged", "the proxy, into the backlog"
    table = Table(title, (per_event, RATE), work)
    need = Need(clients=200, runs=200, rate=4000.0, text=ORDER, rules=FIVE_RULES)
    for _ in range(repeat):
        for way in ("aio", "lean"):
            table.add(f"receiving alone ({way})", receive(way, need, SECONDS))
        table.add(work, linger(OURS, need, SECONDS))
        for each in (1, 3):
            found = measure(OURS, dataclasses.replace(need, clients=200 * each), settle=3, warm=3)
            found["us_event"] = found["us_cpu_ev"] * each
            table.add(f"the proxy, {each} client{'s' if each > 1 else ''}", found)
    return table


def w7(repeat: int) -> Table:
    """Growth: the cost of a delivery as clients, runs, rules, teams or backlog grow a hundredfold."""
    many_rules = "    rules:\n" + "".join(
        f"      - {{events: step_stream, steps: other_{n}_*, data: payload}}\n" for n in range(999)
    )
    shaped = Need().rules.partition("rules:\n")[2]
    backlog = "    backlog: {{events: {}, bytes: 64MiB}}\n"
    grown = {
        "100 clients": Need(clients=100),
        "1,000 clients": Need(clients=1000),
        "10,000 clients": Need(clients=10_000, window=4),
        "10 runs": Need(clients=10, runs=10, rate=4000),
        "500 runs": Need(clients=500, runs=500, rate=4000),
        "5,000 runs": Need(clients=5000, runs=5000, rate=4000),
        "1 rule, 100 clients": Need(clients=100),
        "1,000 rules, 100 clients": Need(clients=100, rules=many_rules + shaped),
        "1 team, 100 clients": Need(clients=100, runs=100, rate=4000),
        "100 teams, 100 clients": Need(clients=100, runs=100, rate=4000, teams=100),
        "backlog 100": Need(clients=100, streams=backlog.format(100)),
        "backlog 100,000": Need(clients=100, streams=backlog.format(100_000)),
    }
    steps = [(name, OURS, need) for name, need in grown.items()]
    at = next(n for n, (name, _, _) in enumerate(steps) if name.startswith("1 rule"))
    steps[at:at] = [(f"{BARE.name}, {name}", BARE, need) for name, _, need in steps[:at]]
    columns = (CPU, ("pss_mb", "MB in all", "{:.0f}"), ("kb_client", "KB per client", "{:.1f}"), RATE, LOST)
    table = Table("W7: growth", columns, "")
    for _ in range(repeat):
        for name, peer, need in steps:
            try:
                # until every run's states are read, also the reads that its first chunk causes
                settle, warm = (
                    max(0.3, 2 if need.runs > 1 else 0, need.runs / 200),
                    max(WARM, need.runs / 400),
                )
                found = measure(peer, need, settle=settle, warm=warm)
            except NotReady as error:
                print(f"w7: {name} could not: {str(error)[:300]}", flush=True)
                continue
            found["pss_mb"] = found["pss1_kb"] / 1024
            found["kb_client"] = (found["pss1_kb"] - found["pss_base_kb"]) / need.clients
            table.add(name, found)
            time.sleep(0.5)
    return table


def otel(repeat: int) -> Table:
    """What OpenTelemetry costs: per connect (each is a span), and per delivery (which is none)."""
    columns = (
        ("us_conn", "µs of CPU per connect", "{:.0f}"),
        CPU,
        LOST,
    )
    table = Table("OpenTelemetry", columns, OURS.name)
    churn, tokens = Need(clients=64, runs=16, fed=False), Need(window=1)

    def figures(peer: Peer) -> dict[str, Any]:
        connects = measure(peer, churn, mode="churn", churnhdr=1, maxinfl=64, srcs=8)
        return {**measure(peer, tokens), "us_conn": connects["us_cpu_conn"]}

    return _each(table, (OURS, *TRACED), repeat, figures)


WORKS: Final[dict[str, Work]] = {
    "w1": w1,
    "w1single": w1single,
    "w1burst": w1burst,
    "w1latency": w1latency,
    "w2": w2,
    "w3": w3,
    "w4": w4,
    "w5": w5,
    "w6": w6,
    "w7": w7,
    "otel": otel,
}
