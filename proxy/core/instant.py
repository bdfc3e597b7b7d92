"""Times as whole nanoseconds since 1970 in UTC: parsed when they arrive, written as text when they are sent.

Hatchet sends times with up to nine digits after the second (protobuf in gRPC, RFC 3339 text in REST).
Python's ``datetime`` holds only six, and times as text with different numbers of digits cannot be compared,
so inside the proxy neither is used.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

SECOND: Final = 1_000_000_000  # nanoseconds

_EPOCH: Final = datetime(1970, 1, 1)

_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:?\d\d)?\Z", re.ASCII
)


def instant(text: str | None) -> int | None:
    """An RFC 3339 time as nanoseconds since 1970; None for None and for text that is not a time.

    A time without an offset is taken as UTC.
    """
    found = _RFC3339.match(text) if text else None
    if found is None:
        return None
    whole, digits, offset = found.groups()
    try:
        moment = datetime.fromisoformat(
            whole.replace("t", "T") + (offset or "Z").upper().replace("Z", "+00:00")
        )
    except ValueError:
        return None
    return int(moment.timestamp()) * SECOND + int(((digits or "") + "000000000")[:9])


def text_of(at: int | None) -> str | None:
    """The ISO 8601 text of an instant in UTC, with as many digits after the second as it needs."""
    if at is None:
        return None
    seconds, nanos = divmod(at, SECOND)
    text = _text_of_second(seconds)
    if not nanos:
        return text + "Z"
    digits = str(SECOND + nanos)[1:].rstrip("0")  # with leading zeros; 0.3 µs faster than formatting
    return f"{text}.{digits}Z"


@lru_cache(maxsize=64)  # events of a burst share their second, and making its text is the expensive part
def _text_of_second(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:  # a year beyond 9999
        return _EPOCH.isoformat()
