"""A client's request as the checks see it: the value in the path, headers, query, cursor."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from proxy.access.authenticator import Identity, RequestHead
from proxy.core.observations import CoreState

CURSOR_PARAMETERS: Final = ("last_event_id", "lastEventId", "lastEventID")
"""Query parameters for a cursor: ours, that of two EventSource libraries, and Mercure's."""
MAX_VALUE: Final = 200  # characters of a metadata value in a path: part of the public contract
LEGAL_VALUE: Final = f"must have 1 to {MAX_VALUE} characters, no control characters"


class ClientRequest(Struct, frozen=True, gc=False):
    """The content of a client's request, independent of the transport.

    `value` is the text in the path's placeholder, `scheme` http or https, `address` the client's, for the
    log. With `head_only` (HEAD) the checks are made and no stream begins.
    """

    value: str
    head: RequestHead
    scheme: str
    address: str
    head_only: bool = False

    @property
    def accept(self) -> str | None:
        return self.head.headers.get("accept")

    @property
    def cursor(self) -> str:
        """The text of the cursor.

        The header outranks the query, which an EventSource repeats unchanged. Of several parameters the last
        one is the newest: libraries append theirs to a URL that may have one already.
        """
        header = self.head.headers.get("last-event-id")
        if header:
            return header
        for name, text in reversed(self.head.query):
            if text and name in CURSOR_PARAMETERS:
                return text
        return ""


def is_legal_value(value: str) -> bool:
    """Whether `value` can be the value of a metadata path."""
    return 1 <= len(value) <= MAX_VALUE and not any(_is_illegal(ord(char)) for char in value)


def _is_illegal(code: int) -> bool:
    """Control characters, and half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return code < 32 or code == 127 or 0xD800 <= code <= 0xDFFF


def allow_root(identity: Identity, state: CoreState, head: RequestHead) -> dict[str, Any]:
    """The root of an `allow` expression; a ticket is a credential and therefore not among the parameters."""
    params = {name: value for name, value in head.parameters.items() if name != "ticket"}
    return {
        "claims": identity.claims,
        "run": {"id": state.run_id, "metadata": state.metadata},
        "request": {"params": params, "origin": head.headers.get("origin")},
    }
