"""Which worker a request belongs to: the same one for every request of a run. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes
from zlib import crc32

from proxy.server.http.routing import PROBES

FIRST: Final = 0
"""The worker that answers probes and metrics, and has the admin port."""
_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_METHODS: Final = (b"GET ", b"HEAD ")
"""Only these read a stream; whichever worker has a request with another method answers it."""
_PROBES: Final = frozenset(path.encode() for path in PROBES)


def worker_of(request: bytes, workers: int) -> int | None:
    """The worker of a request, from the bytes of its first line; None where each may answer it.

    All paths with the same run id have the same worker. A path without one (a stream by metadata) has a
    worker of its own, whatever its query is.
    """
    line = request[: request.find(b"\r\n")].lstrip()
    if not line.startswith(_METHODS):
        return None
    path = line.split(b" ", 2)[1].partition(b"?")[0]
    if path in _PROBES:
        return FIRST
    if b"%" in path:
        path = unquote_to_bytes(path)
    run_ids = _UUID.findall(path)
    return crc32(run_ids[-1].lower() if run_ids else path) % workers


def worker_of_run(run_id: str, workers: int) -> int:
    """The worker of a run that is read by its id."""
    return crc32(run_id.lower().encode()) % workers
