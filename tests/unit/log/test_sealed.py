"""Which logs of finished runs are removed when memory is full."""

from __future__ import annotations

import pytest

from proxy.log.redis import sealed as module
from proxy.log.redis.sealed import LEAST, PAUSE, SealedLogs


class Time:
    """The time, which tests move on."""

    now = 100.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    its = Time()
    monkeypatch.setattr(module, "monotonic", lambda: its.now)
    return its


def test_the_oldest_ones_go_first_some_at_a_time_and_each_once(time: Time) -> None:
    logs = SealedLogs()
    names = [f"log {number}" for number in range(30 * LEAST)]
    for name in names:
        logs.add(name, 600.0)
    assert logs.to_remove() == names[: 3 * LEAST], "a tenth of them"
    assert logs.to_remove() == [], "what was refused at the same time removes no more"
    time.now += 2 * PAUSE
    assert logs.to_remove() == names[3 * LEAST : 3 * LEAST + 27 * LEAST // 10]


def test_a_log_that_goes_on_or_has_expired_is_none_of_them(time: Time) -> None:
    logs = SealedLogs()
    logs.add("expired", 1.0)
    time.now += 2.0
    for name in ("goes on", "finished"):
        logs.add(name, 600.0)
    logs.discard("goes on")
    logs.discard("never sealed")
    assert logs.to_remove() == ["finished"]
