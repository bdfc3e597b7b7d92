"""Stop a listening socket without leaking the connection that it is just accepting.

asyncio accepts a connection in one turn of its loop and makes the transport in the next. `Server.close`
between the two leaves a connected socket that nobody owns: the client waits on it until the garbage collector
finds it.
(https://github.com/python/cpython/issues/109564; uvloop accepts in one turn and is not concerned.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

TURNS: Final = 2  # of the loop: the transport is made in the first, `connection_made` is called in the second


class ListeningSocket(Protocol):
    """A socket, or asyncio's view of one."""

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""


async def stop_accepting(sockets: Iterable[ListeningSocket]) -> None:
    """Accept no more connections; return when those that are accepted have their transports.

    The servers of `sockets` are still to be closed.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        return
    for descriptor in [sock.fileno() for sock in sockets]:
        if descriptor >= 0:  # not closed yet
            loop.remove_reader(descriptor)
    for _ in range(TURNS):
        await asyncio.sleep(0)
