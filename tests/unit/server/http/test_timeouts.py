"""One timer for many: each is timed out when its own time is over, unless it was removed."""

from __future__ import annotations

import asyncio

from proxy.server.http.timeouts import TimeoutQueue


class Entry:
    """Remembers when it was timed out."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.called = asyncio.Event()

    def timed_out(self) -> None:
        assert not self.called.is_set()
        self.at = asyncio.get_running_loop().time()
        self.called.set()


async def test_each_is_timed_out_when_its_own_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    queue, entries, added_at = TimeoutQueue(0.05, loop), [Entry() for _ in range(3)], []
    for entry in entries:
        added_at.append(loop.time())
        queue.add(entry)
        await asyncio.sleep(0.02)  # so that their times differ
    await asyncio.gather(*(entry.called.wait() for entry in entries))
    for entry, at in zip(entries, added_at, strict=True):
        assert entry.at is not None
        assert entry.at >= at + 0.05
    assert [entry.at for entry in entries] == sorted(entry.at or 0 for entry in entries)
    assert len(queue) == 0


async def test_a_removed_entry_is_not_called_and_one_that_is_added_again_has_all_its_time() -> None:
    loop = asyncio.get_running_loop()
    queue, removed, again = TimeoutQueue(0.05, loop), Entry(), Entry()
    before = loop.time()
    queue.add(removed)
    queue.add(again)
    due = queue.remove(again)
    assert due is not None
    assert before + 0.05 <= due <= loop.time() + 0.05
    assert queue.remove(removed) is not None
    assert queue.remove(removed) is None
    await asyncio.sleep(0.03)  # so that the second time ends later than the first would have
    added_at = loop.time()
    queue.add(again)
    await again.called.wait()
    assert again.at is not None
    assert again.at >= added_at + 0.05
    assert not removed.called.is_set()


async def test_an_entry_that_is_added_when_the_queue_was_empty_is_timed_out_too() -> None:
    queue, first, second = TimeoutQueue(0.01, asyncio.get_running_loop()), Entry(), Entry()
    queue.add(first)
    await first.called.wait()
    queue.add(second)
    await second.called.wait()
    assert len(queue) == 0
