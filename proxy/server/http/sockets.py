"""Listening sockets and the TCP options of connections."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Final

HIGH_WATER: Final = 32 * 1024
"""Bytes in user space at which a stream pauses, beside twice as many in the kernel: a client that reads is
never kept waiting, and one that stops reading holds little memory."""
SEND_BUFFER: Final = 64 * 1024
"""SO_SNDBUF, which the kernel doubles: by default a client that stops reading hides megabytes there."""
UNACKNOWLEDGED_FACTOR: Final = 2
"""TCP gives a connection up after this many write timeouts without an acknowledgement; by default it takes a
quarter of an hour. A client that acknowledges but reads nothing is ended by the write timeout before that."""


def bound(host: str, port: int, *, shares: bool = False) -> socket.socket:
    """A bound socket that does not listen yet, whose connections inherit `SEND_BUFFER`. Raises OSError.

    `shares`: other sockets that share may be bound to the same address; the system divides connections
    among those that listen.

    It must not listen before signals are handled, because a drain must reach every client that can connect.
    """
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if shares:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def limit_unacknowledged(sock: socket.socket | None, write_timeout: float) -> None:
    """Let TCP close the connection of a peer that vanished without closing it (`UNACKNOWLEDGED_FACTOR`).

    `write_timeout` is in seconds. Connections that are accepted from a listening socket inherit the option.
    Nothing happens where the system does not know it, or `sock` is no TCP socket or closed.
    """
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = round(write_timeout * UNACKNOWLEDGED_FACTOR * 1000)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def cut(transport: asyncio.Transport) -> None:
    """Close a connection in the middle of a response.

    It is reset, so that a client of HTTP/1.0 does not take the part for the whole: its bodies end with the
    connection. (SO_LINGER with a time of 0, socket(7))
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unsent(transport: asyncio.Transport) -> int:
    """How many written bytes the client has not acknowledged: those in user space, and those in the kernel.

    The kernel's are counted where it says so (TIOCOUTQ, tcp(7)); elsewhere those in user space alone.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):
            waiting += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
    return waiting
