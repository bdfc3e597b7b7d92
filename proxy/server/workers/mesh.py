"""The mesh: how the workers of one listener pass connections on, and ask each other.

Each worker has an inbox, a Unix datagram socket whose other end every worker holds. The parent makes them
before it forks, so there is no name that another program could take, and a worker that was started again
finds what was sent meanwhile. A message is one byte for its kind, a body, and a file descriptor:

    c  a client's connection; the body is what was read of its request
    q  a question; the body is the question, the answer is written to the descriptor, which is then closed
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from proxy.core.tasks import start_in
from proxy.server.workers.placement import worker_of

CONNECTION: Final = b"c"
QUESTION: Final = b"q"
MOST_BYTES: Final = 64 << 10
"""Bytes of a message: the fast path reads no more of a request before it knows what to do with it."""
PATIENCE: Final = 2.0
"""Seconds for an answer; a worker that is this far behind is left out."""
AT_ONCE: Final = 64
"""Messages that are read in one turn of the loop; the rest waits for the next turn."""


class Inboxes(Struct, frozen=True):
    """The inboxes of all workers: `ours[n]` is where worker n reads, `theirs[n]` where others write to it."""

    ours: Sequence[socket.socket]
    theirs: Sequence[socket.socket]

    @classmethod
    def make(cls, workers: int) -> Inboxes:
        """Inboxes for so many workers. Raises OSError."""
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(workers)]
        for pair in pairs:
            for end in pair:
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return cls([ours for ours, _ in pairs], [theirs for _, theirs in pairs])


class Mesh:
    """One worker's place in the mesh."""

    def __init__(self, index: int, inboxes: Inboxes) -> None:
        self.index: Final = index
        self.workers: Final = len(inboxes.ours)
        self.passed_on = 0
        self._inbox = inboxes.ours[index]
        self._others = inboxes.theirs
        self._tasks: set[asyncio.Task[None]] = set()
        self._take: Callable[[socket.socket, bytes], None] | None = None
        self._answer: Callable[[bytes], bytes] | None = None

    def open(self, take: Callable[[socket.socket, bytes], None], answer: Callable[[bytes], bytes]) -> None:
        """Begin to read the inbox: `take` gets connections with their first bytes, `answer` questions."""
        self._take, self._answer = take, answer
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), self._read)

    def close(self) -> None:
        """Read no more; connections that come now wait for the worker that follows this one."""
        asyncio.get_running_loop().remove_reader(self._inbox.fileno())
        for task in tuple(self._tasks):
            task.cancel()

    # -- connections --

    def pass_on(self, transport: asyncio.Transport, received: bytes) -> bool:
        """Give a connection whose request begins with `received` to its worker; False: it stays here.

        It stays where bytes of an earlier response are still unsent, and where the other inbox is full.
        """
        owner = worker_of(received, self.workers)
        if owner is None or owner == self.index or len(received) >= MOST_BYTES:
            return False
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_write_buffer_size():
            return False
        try:
            socket.send_fds(self._others[owner], [CONNECTION + received], [sock.fileno()])
        except OSError:
            return False
        self.passed_on += 1
        transport.abort()  # closes this process's descriptor alone: the connection itself goes on
        return True

    # -- questions --

    async def ask(self, worker: int, question: bytes) -> bytes | None:
        """The answer of another worker; None where it gives none in time."""
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        try:
            with there:
                socket.send_fds(self._others[worker], [QUESTION + question], [there.fileno()])
            answer = bytearray()
            async with asyncio.timeout(PATIENCE):
                while piece := await loop.sock_recv(here, 1 << 16):
                    answer += piece
            return bytes(answer) or None
        except (OSError, TimeoutError):
            return None
        finally:
            here.close()

    async def ask_all(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answers of the other workers to a JSON question; empty and missing ones are left out."""
        asked = json.dumps(question).encode()
        others = [worker for worker in range(self.workers) if worker != self.index]
        answers = await asyncio.gather(*(self.ask(worker, asked) for worker in others))
        return [found for text in answers if text is not None and (found := json.loads(text))]

    # -- the inbox --

    def _read(self) -> None:
        for _ in range(AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._inbox, MOST_BYTES + 1, 1)
            except OSError:  # nothing is left
                return
            if not descriptors:
                continue
            sock = socket.socket(fileno=descriptors[0])
            sock.setblocking(False)
            if message[:1] == CONNECTION and self._take is not None:
                self._take(sock, message[1:])
            elif message[:1] == QUESTION and self._answer is not None:
                start_in(self._tasks, self._write_answer(sock, self._answer(message[1:])))
            else:
                sock.close()

    async def _write_answer(self, sock: socket.socket, answer: bytes) -> None:
        with sock, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_sendall(sock, answer)
