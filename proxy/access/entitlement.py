"""Entitlement: what a client was admitted with, to check later whether it still would be."""

from __future__ import annotations

from msgspec import Struct

from proxy.access.authenticator import Identity
from proxy.access.request_head import RequestHead


class Entitlement(Struct, frozen=True, gc=False):
    """The credential and the request of an open stream.

    `run` is the run as tickets mean it: the canonical id, or the value in a metadata path. `head` is reduced
    to what the checks of the Origin and `allow` read.
    """

    team: str
    identity: Identity
    run: str
    head: RequestHead
    scheme: str
