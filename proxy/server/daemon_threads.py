"""The threads of the process: none of them keeps it alive.

asyncio's own executor joins its threads at the end of the process. A name that does not resolve or a file
system that hangs would hold up the exit after SIGTERM, without a limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST: Final = 32  # threads at once, as in asyncio's own executor; what comes later waits for one of them


class DaemonThreads(ThreadPoolExecutor):
    """An executor for `asyncio.loop.set_default_executor`, which takes only subclasses of this class.

    Each call has a daemon thread of its own: they are rare (names, files, scrapes).
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)  # its own threads are never started
        self._places = threading.BoundedSemaphore(MOST)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            with self._places:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        threading.Thread(target=run, name="daemon", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Return at once: daemon threads end with the process."""
        del wait, cancel_futures
