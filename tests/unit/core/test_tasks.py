"""Coroutines that are started eagerly: at once where nothing waits, in a task from `in_task` on."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.tasks import Background, in_task, start_eagerly


async def started_eagerly(coroutine: object) -> object:
    """What `start_eagerly` returns when it is called outside of any task."""
    result: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def start() -> None:
        try:
            result.set_result(start_eagerly(coroutine))  # type: ignore[arg-type]
        except Exception as error:
            result.set_exception(error)

    asyncio.get_running_loop().call_soon(start)
    return await result


async def test_a_coroutine_that_waits_for_nothing_ends_at_once() -> None:
    async def seven() -> int:
        return 7

    assert await started_eagerly(seven()) == 7


async def test_an_error_is_raised_at_once() -> None:
    async def broken() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await started_eagerly(broken())


async def test_from_in_task_on_it_runs_in_a_task_and_may_wait() -> None:
    seen: list[asyncio.Task[object] | None] = []

    async def waits() -> int:
        seen.append(asyncio.current_task())
        await in_task()
        seen.append(asyncio.current_task())
        async with asyncio.timeout(10):  # which only works in a task
            await asyncio.sleep(0)
        await in_task()
        return 7

    task = await started_eagerly(waits())
    assert isinstance(task, asyncio.Task)
    assert await task == 7
    assert seen == [None, task]


async def test_a_cancelled_task_unwinds_what_ran_at_once_too() -> None:
    notes: list[str] = []

    async def waits() -> None:
        try:
            await in_task()
            await asyncio.Event().wait()
        finally:
            notes.append("given back")

    task = await started_eagerly(waits())
    assert isinstance(task, asyncio.Task)
    task.cancel()  # before its first step
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes == ["given back"]


async def test_waiting_without_in_task_is_an_error() -> None:
    with pytest.raises(AssertionError, match="in_task"):
        await started_eagerly(asyncio.Event().wait())


# -- the background --


async def test_work_in_the_background_that_is_cancelled_before_its_first_step_is_closed() -> None:
    async def work() -> None:
        pytest.fail("it was cancelled")

    background, coroutine = Background(lambda error: pytest.fail(str(error))), work()
    background.start(coroutine)
    (task,) = background.cancel()
    await asyncio.wait([task])
    with pytest.raises(
        RuntimeError, match="reuse"
    ):  # a coroutine that was never begun warns when it is freed
        coroutine.send(None)


async def test_an_error_in_the_background_is_given_on_unless_it_is_expected() -> None:
    async def broken(error: Exception) -> None:
        raise error

    given: list[Exception] = []
    background = Background(given.append, expected=(KeyError,))
    unforeseen = ValueError()
    background.start(broken(KeyError()))
    background.start(broken(unforeseen))
    async with asyncio.timeout(10):
        while not given:
            await asyncio.sleep(0)
    assert given == [unforeseen]
