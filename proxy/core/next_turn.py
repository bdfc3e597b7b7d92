"""NextTurn: what is to be done in the loop's next turn for many runs, with one callback for all of them.

Each callback of a loop has a handle and a context of its own, which cost as much as writing an event to a
client. Where many runs have an event in one turn, a list of calls is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary


class NextTurn:
    """The calls that are made in the next turn of one loop, in the order in which they were asked for."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def call(self, call: Callable[[], object]) -> None:
        """Make `call` in the next turn, as `loop.call_soon` does."""
        if not self._calls:
            asyncio.get_running_loop().call_soon(self._make_calls)
        self._calls.append(call)

    def _make_calls(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception as error:  # the others are to be made all the same
                context = {"message": f"{call} failed unexpectedly", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, NextTurn] = WeakKeyDictionary()


def next_turn() -> NextTurn:
    """The one of the running loop."""
    loop = asyncio.get_running_loop()
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = NextTurn()
    return found
