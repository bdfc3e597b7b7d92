"""Asking: a question that is answered in steps, of which few have to be waited for.

The steps are a generator: what must be waited for is yielded as a call that is not made yet, and its answer
(or its exception) comes back at the ``yield``. So one piece of code decides, whether it is asked where nobody
can wait (`next`: if that ends it, all is said) or within a task (`carried_out`), which may also take it over
where it stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Wait = Callable[[], Awaitable[Any]]
"""A call that begins what is waited for; not made where nobody waits any more."""

Asking = Generator[Wait, Any, T]


async def carried_out(asking: Asking[T], wait: Wait | None = None) -> T:
    """The answer; `wait` is what the asking already stands at. Raises what the asking raises."""
    try:
        wait = wait or next(asking)
        while True:
            try:
                told = await wait()
            except BaseException as error:  # a cancellation too: the asking gives back what it holds
                wait = asking.throw(error)
            else:
                wait = asking.send(told)
    except StopIteration as done:
        answer: T = done.value
        return answer
