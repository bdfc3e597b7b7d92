"""Tasks: run a coroutine at once as far as it goes without waiting, and in a task from there on.

Most requests wait for nothing, and a task costs them more than all their checks. asyncio has eager tasks for
that from Python 3.12 on; this works on 3.11:

    start_eagerly(request.start(sink))      runs until the coroutine ends, or until `in_task`
        await in_task()                     from here on it runs in a task, and may wait for anything
        await upstream.core(run_id)

`in_task` has to be awaited before anything that may wait. In a task it does nothing.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def in_task() -> Generator[None, None, None]:
    """Go on in a task."""
    if asyncio.current_task() is None:
        yield


def start_eagerly(coroutine: Coroutine[Any, Any, T], context: Context | None = None) -> T | asyncio.Task[T]:
    """What `coroutine` returns, or a task with the rest of it. Raises what the coroutine raises.

    Call it outside of any task, on a running loop. `context` is the coroutine's own; None: it runs in the
    caller's, and must not change it.
    """
    try:
        waits_for = coroutine.send(None) if context is None else context.run(coroutine.send, None)
    except StopIteration as done:
        result: T = done.value
        return result
    assert waits_for is None, "in_task() was not awaited before something that waits"
    return asyncio.get_running_loop().create_task(coroutine, context=context)


def start_in(tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task that `tasks` holds until it is done: the loop alone would not hold it."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


class Background:
    """Work that nobody waits for; an exception in it that is not `expected` is given to `unforeseen`."""

    __slots__ = ("_expected", "_tasks", "_unforeseen")

    def __init__(
        self, unforeseen: Callable[[Exception], None], *, expected: tuple[type[Exception], ...] = ()
    ) -> None:
        self._unforeseen = unforeseen
        self._expected = expected
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin `work` in a task."""
        # not in a coroutine around it: cancelled before its first step, that would never await `work`
        start_in(self._tasks, work).add_done_callback(self._note_error)

    def _note_error(self, task: asyncio.Task[object]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, self._expected):
            self._unforeseen(error)

    def cancel(self) -> list[asyncio.Task[object]]:
        """Cancel everything but the task that calls this; the tasks that are ending now."""
        ending = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in ending:
            task.cancel()
        return ending
