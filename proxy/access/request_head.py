"""RequestHead: headers, cookies and query of a request; the latter two are parsed when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

Pairs = Sequence[tuple[str, str]]


class RequestHead:
    """Headers, cookies and query of a request; never printed, because they hold credentials.

    Cookies and the query are parsed on first use, because most requests have neither. A name may occur
    several times in both: a browser sends the cookies of all matching paths and domains, and libraries append
    parameters to a URL that has them already.
    """

    __slots__ = ("_cookie_headers", "_cookies", "_query", "_text", "headers")

    def __init__(
        self,
        headers: Mapping[str, str],  # names in lower case
        cookies: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        cookie_headers: Sequence[str] = (),
        text: str = "",
    ) -> None:
        """`cookie_headers` and `text` (the query) are not parsed yet.

        Of a repeated header the first value counts.
        """
        self.headers: Final = headers
        self._cookies: Pairs | None = None if cookies is None else tuple(cookies.items())
        self._query: Pairs | None = None if query is None else tuple(query.items())
        self._cookie_headers = cookie_headers
        self._text = text

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]], query: bytes) -> RequestHead:
        """From raw ASGI headers and a query string."""
        found: dict[str, str] = {}
        cookie_headers: list[str] = []
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            found.setdefault(name, value)
            if name == "cookie":  # HTTP/2 in front may have split it (RFC 9113, 8.2.3)
                cookie_headers.append(value)
        return cls(found, cookie_headers=cookie_headers, text=query.decode("latin-1"))

    def without_credentials(self) -> RequestHead:
        """What the checks of the Origin and `allow` read: a few headers and the query, tickets taken out."""
        get = self.headers.get
        of_page = _of_page(get("origin"), get("host"), get("sec-fetch-site"))
        if not self._text and not self._query:
            return of_page
        parameters = {name: value for name, value in self.parameters.items() if name != "ticket"}
        return RequestHead(of_page.headers, {}, parameters) if parameters else of_page

    @property
    def cookies(self) -> Pairs:
        """All cookies, in the order in which they came."""
        if self._cookies is None:
            self._cookies = tuple(_cookies(self._cookie_headers))
        return self._cookies

    @property
    def query(self) -> Pairs:
        """All parameters, in their order."""
        if self._query is None:
            self._query = tuple(_parameters(self._text)) if self._text else ()
        return self._query

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters by name; of a repeated name the first value counts."""
        return dict(reversed(self.query))


@lru_cache(maxsize=128)
def _of_page(origin: str | None, host: str | None, site: str | None) -> RequestHead:
    """The headers that tell which page asks. Most clients have the same, so they share one object."""
    found = {"origin": origin, "host": host, "sec-fetch-site": site}
    return RequestHead({name: text for name, text in found.items() if text is not None}, {}, {})


def values_of(name: str, pairs: Pairs) -> tuple[str, ...]:
    """The values of `name` in `pairs` that are not empty, each once, in their order."""
    return tuple(dict.fromkeys(value for each, value in pairs if each == name and value))


def _parameters(text: str) -> list[tuple[str, str]]:
    if "%" not in text and "+" not in text:  # nothing is quoted: most queries are a ticket or a cursor
        pairs = [pair.partition("=") for pair in text.split("&") if pair]
        return [(name, value) for name, _, value in pairs]
    return parse_qsl(text, keep_blank_values=True, errors="replace", separator="&")


def _cookies(headers: Sequence[str]) -> Iterable[tuple[str, str]]:
    for header in headers:
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            if equals:
                yield name.strip(), value.strip().strip('"')
