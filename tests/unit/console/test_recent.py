"""The last hour's losses are differences of counters; the newest log lines are bounded and clean."""

from __future__ import annotations

from proxy.console.recent import HOUR, LINES, LastHour, RecentLines
from proxy.observability.counters import Counters


def test_an_hour_forgets_what_was_counted_before_it() -> None:
    counters = Counters()
    hour = LastHour(counters)
    stream = counters.team("a").stream("chat")
    stream.gaps["upstream"] += 5
    hour.sample(0.0)
    stream.gaps["upstream"] += 2
    hour.sample(60.0)
    stream.gaps["upstream"] += 1
    counters.team("a").refusals["401"] += 7
    assert hour.rows() == [
        {"team": "a", "stream": "", "kind": "refused", "label": "401", "times": 7},
        {"team": "a", "stream": "chat", "kind": "gap", "label": "upstream", "times": 3},
    ]
    hour.sample(HOUR + 60.0)  # the sample of an hour ago is now the one at 60 s
    assert [row["times"] for row in hour.rows()] == [7, 1]


def test_without_a_sample_everything_since_the_start_counts() -> None:
    counters = Counters()
    counters.team("a").unforeseen += 1
    assert LastHour(counters).rows() == [
        {"team": "a", "stream": "", "kind": "unforeseen error", "label": "", "times": 1}
    ]


def test_the_newest_lines_are_kept_and_tokens_in_them_redacted() -> None:
    lines = RecentLines()
    for number in range(LINES + 5):
        lines.write("info", "stream over", {"frames": number})
    lines.write("error", "unforeseen error", {"error": ValueError("x"), "why": "Bearer abc.def"})
    kept = [line.as_json for line in lines]
    assert len(kept) == LINES
    assert kept[0]["fields"] == {"frames": 6}
    assert kept[-1]["fields"]["why"] == "Bearer [redacted]"
