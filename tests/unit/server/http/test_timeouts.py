"""One timer for many: each is told in his time, and nobody who has gone."""

from __future__ import annotations

import asyncio

from proxy.server.http.timeouts import Deadlines


class Guest:
    """Remembers when he was late."""

    def __init__(self) -> None:
        self.late_at: float | None = None
        self.told = asyncio.Event()

    def late(self) -> None:
        assert not self.told.is_set()
        self.late_at = asyncio.get_running_loop().time()
        self.told.set()


async def test_each_is_late_when_his_own_time_is_over() -> None:
    loop = asyncio.get_running_loop()
    deadlines, guests, came = Deadlines(0.05, loop), [Guest() for _ in range(3)], []
    for guest in guests:
        came.append(loop.time())
        deadlines.add(guest)
        await asyncio.sleep(0.02)
    await asyncio.gather(*(guest.told.wait() for guest in guests))
    for guest, at in zip(guests, came, strict=True):
        assert guest.late_at is not None
        assert guest.late_at >= at + 0.05
    assert [guest.late_at for guest in guests] == sorted(guest.late_at or 0 for guest in guests)
    assert len(deadlines) == 0


async def test_who_has_gone_is_not_told_and_who_comes_again_has_his_whole_time() -> None:
    loop = asyncio.get_running_loop()
    deadlines, gone, again = Deadlines(0.05, loop), Guest(), Guest()
    deadlines.add(gone)
    deadlines.add(again)
    due = deadlines.take(again)
    assert due is not None
    assert loop.time() <= due <= loop.time() + 0.05
    assert deadlines.take(gone) is not None
    assert deadlines.take(gone) is None
    await asyncio.sleep(0.03)
    came = loop.time()
    deadlines.add(again)
    await again.told.wait()
    assert again.late_at is not None
    assert again.late_at >= came + 0.05
    assert not gone.told.is_set()
