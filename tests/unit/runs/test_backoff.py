"""When a subscription that is over is opened again."""

from __future__ import annotations

from random import Random

from proxy.runs.subscription import AT_ONCE, Backoff


def waits(backoff: Backoff, ends: int, *, hung_up: bool) -> list[float]:
    """The seconds until each opening, where every subscription is over as soon as it is open."""
    now, found = 0.0, []
    for _ in range(ends):
        backoff.opening(now)
        backoff.ended(now, hung_up=hung_up, lasted=0.0)
        found.append(max(backoff.at - now, 0.0))
        now = max(now, backoff.at)
    return found


def test_the_false_ends_of_a_dags_start_do_not_delay_a_subscription() -> None:
    found = waits(Backoff(Random(1)), AT_ONCE + 3, hung_up=True)
    assert found[:AT_ONCE] == [0.0] * AT_ONCE
    assert found[AT_ONCE] > 0.0


def test_a_subscription_without_a_hangup_is_not_opened_again_at_once() -> None:
    assert all(wait > 0.0 for wait in waits(Backoff(Random(1)), 5, hung_up=False))
