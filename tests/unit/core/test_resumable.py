"""Questions in steps: asked at once as far as it goes, carried out where somebody can wait."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.resumable import Asking, carried_out


async def seven() -> int:
    return 7


async def broken() -> int:
    raise KeyError("k")


def sum_of_two(notes: list[str]) -> Asking[int]:
    first: int = yield seven
    try:
        second: int = yield broken
    except KeyError:
        second = 1
    finally:
        notes.append("done")
    return first + second


async def test_what_is_waited_for_comes_back_where_it_was_asked() -> None:
    assert await carried_out(sum_of_two([])) == 8


async def test_a_task_goes_on_where_somebody_else_began() -> None:
    asking = sum_of_two([])
    wait = next(asking)
    assert await carried_out(asking, wait) == 8


async def test_a_cancellation_is_felt_by_the_asking() -> None:
    notes: list[str] = []

    def asks() -> Asking[int]:
        try:
            yield asyncio.Event().wait
            return 0
        finally:
            notes.append("given back")

    task = asyncio.create_task(carried_out(asks()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes == ["given back"]


async def test_what_nobody_waits_for_is_never_begun() -> None:
    begun: list[str] = []

    async def begin() -> int:
        begun.append("begun")
        return 1

    def asks() -> Asking[int]:
        yield begin
        return 0

    task = asyncio.create_task(carried_out(asks()))
    task.cancel()  # before its first step
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun == []
