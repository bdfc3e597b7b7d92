"""AfterHead: the callbacks of a parser that goes on in the middle of a request."""

from __future__ import annotations

from typing import Protocol


class ParserCallbacks(Protocol):
    """What httptools calls while it reads requests."""

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A part of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""

    def on_headers_complete(self) -> None:
        """The head is complete."""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""

    def on_message_complete(self) -> None:
        """The request is complete."""


class AfterHead:
    """Passes a parser's callbacks on, except for the head of the first request.

    That head is synthetic: it only informs the parser how the body is framed. The requests after the first
    one are passed on whole.
    """

    def __init__(self, to: ParserCallbacks) -> None:
        self._to = to
        self._in_head = True

    def on_message_begin(self) -> None:
        if not self._in_head:
            self._to.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._in_head:
            self._to.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._to.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._in_head:
            self._in_head = False
        else:
            self._to.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._to.on_body(body)

    def on_message_complete(self) -> None:
        self._to.on_message_complete()
