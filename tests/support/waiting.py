"""Waiting in tests: poll for a condition until it holds, with a deadline that only a fault reaches."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

DEADLINE: Final = 30.0  # seconds: below pytest-timeout's 60, so that the message below is what is shown
POLL: Final = 0.01  # seconds between two looks at what has no event of its own


async def until(
    holds: Callable[[], object | Awaitable[object]],
    what: str = "",
    within: float = DEADLINE,
    every: float = POLL,
) -> None:
    """Wait until `holds` returns something true; it may be a coroutine function.

    Raises AssertionError after `within` seconds, with `what` or else the source of `holds`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        found = holds()
        answer = await found if isinstance(found, Awaitable) else found
        if answer:
            return
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s: {what or _source(holds)} (last: {answer!r})")
        await asyncio.sleep(every)


@dataclass
class Stalls:
    """How late the event loop was while it was watched: `longest` in seconds."""

    longest: float = 0.0


@asynccontextmanager
async def stalls() -> AsyncIterator[Stalls]:
    """Watch how late the event loop is: other work on the machine decides what a test can expect."""
    found, loop = Stalls(), asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            due = loop.time() + POLL
            await asyncio.sleep(POLL)
            found.longest = max(found.longest, loop.time() - due)

    task = asyncio.create_task(watch())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait([task])


def _source(holds: Callable[[], object]) -> str:
    try:
        return inspect.getsource(holds).strip()
    except (OSError, TypeError):
        return repr(holds)
