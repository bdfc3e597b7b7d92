"""Plain: the request of nearly every EventSource, read in one look; anything else is left to the parser.

Plain is a GET in HTTP/1.1 that came whole and alone, without a body, an expectation or an upgrade, in
characters that no parser could take for something else. The law: what is read here, llhttp reads the same way
(`tests/unit/server/http/test_request_parser.py` holds them against each other). Whatever
is unusual is not refused but not plain.

A parser tells each header by a call; with a browser's fifteen that is a fifth of a connect's time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 8 * 1024
"""Of a plain request: the guard's limit of its first line alone, so that none of the guard's can be met."""
MOST_HEADERS: Final = 50
"""Half of the guard's."""

_PLAIN: Final = re.compile(
    rb"GET (/(?!/)[!\"$->@-~]*+)(?:\?([!\"$-~]*+))?+ HTTP/1\.1\r\n"  # a target of one meaning, no fragment
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:(?: ?[!-~\x80-\xff]++(?:[ \t]++[!-~\x80-\xff]++)*+)?+\r\n)*+)\r\n"
)
_NOT_PLAIN: Final = frozenset(
    {"content-length", "expect", "http2-settings", "proxy-connection", "transfer-encoding", "upgrade"}
)


@dataclass(slots=True)
class Plain:
    """A plain request: its path (still quoted) and query, headers by their names in lower case (the first
    of each), all cookies, and whether the connection may be used again."""

    path: str
    query: str
    headers: Mapping[str, str]
    cookies: Sequence[str]
    keeps: bool


def read(data: bytes) -> Plain | None:
    """The request that `data` is, or None where it is not plain."""
    found = _PLAIN.fullmatch(data) if len(data) <= MOST_BYTES else None
    if found is None:
        return None
    path, query, block = found.groups()
    lines = block.decode("latin-1").split("\r\n")
    if len(lines) > MOST_HEADERS:
        return None
    lines.pop()
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value[1:] if value[:1] == " " else value
        if name in headers:
            if name in ("connection", "host"):
                return None
        else:
            headers[name] = value
        if name == "cookie":
            cookies.append(value)
    if not _NOT_PLAIN.isdisjoint(headers):
        return None
    connection = headers.get("connection", "keep-alive").lower()
    if connection not in ("keep-alive", "close"):
        return None
    return Plain(path.decode(), (query or b"").decode(), headers, cookies, connection == "keep-alive")
