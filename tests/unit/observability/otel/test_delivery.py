"""Delivery: what is sent, what is dropped, and that nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from proxy.observability.counters import Undelivered
from proxy.observability.otel.delivery import Delivery

LONG = 3600.0  # seconds: longer than any test


def test_what_waits_is_sent_in_batches_when_it_is_closed() -> None:
    sent: list[list[int]] = []
    lost = Undelivered()

    def send(items: Sequence[int]) -> bool:
        sent.append([*items])
        return True

    one = Delivery[int](send, lost, name="t", capacity=9, batch=4, pause=LONG)
    for number in range(3):
        one.offer(number)
    one.close(10)
    assert sent == [[0, 1, 2]]
    assert lost.total == 0


def test_while_a_send_hangs_what_finds_no_room_is_dropped_and_counted_and_the_end_does_not_wait() -> None:
    begun, go_on = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(items: Sequence[int]) -> bool:
        begun.set()
        go_on.wait(30)
        sent.extend(items)
        return True

    lost = Undelivered()
    one = Delivery[int](send, lost, name="t", capacity=4, batch=2, pause=LONG)
    one.offer(1)
    one.offer(2)  # a whole batch wakes the thread
    assert begun.wait(30)
    for number in range(10):
        one.offer(number)
    assert lost.no_room == 6
    one.close(0.0)
    assert lost.no_room == 10, "what still waits at the end is lost too"
    one.offer(11)
    assert lost.no_room == 11
    go_on.set()


def test_a_send_that_fails_or_raises_costs_its_items_and_not_the_thread() -> None:
    answers = iter([False, None, True])

    def send(items: Sequence[int]) -> bool:
        answer = next(answers)
        if answer is None:
            raise RuntimeError("an exporter's defect")
        return answer

    lost = Undelivered()
    one = Delivery[int](send, lost, name="t", capacity=9, batch=1, pause=LONG)
    for number in range(3):
        one.offer(number)
    one.close(10)
    assert (lost.refused, lost.no_room) == (2, 0)
