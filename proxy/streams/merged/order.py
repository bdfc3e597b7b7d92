"""The order of what happened in several runs before a client came. Pure.

Each run's items keep their order. Between runs the times decide, as far as items have times: an item without
one follows the item before it.

    run A   started 1    completed 5    run_completed 6
    run B        started 2   completed 3   run_completed 4
    merged  A started, B started, B completed, B run_completed, A completed, A run_completed
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from proxy.core.events import Event, Item
from proxy.core.instant import instant


def in_order(
    queues: Sequence[Sequence[Item]], starts: Sequence[int], *, sequential: bool
) -> list[tuple[int, Item]]:
    """All items, each with the number of its queue.

    `starts`: when each run was created, in nanoseconds since 1970; the queues are sorted by it. `sequential`:
    each queue comes whole before the next one.
    """
    keyed: list[list[tuple[int, int, int, Item]]] = []
    for number, queue in enumerate(queues):
        at = starts[number]
        items: list[tuple[int, int, int, Item]] = []
        for place, item in enumerate(queue):
            if isinstance(item, Event):
                at = max(at, instant(item.at) or 0)
            items.append((0 if sequential else at, number, place, item))
        keyed.append(items)
    merged = heapq.merge(*keyed, key=lambda one: one[:3])
    return [(number, item) for _, number, _, item in merged]
