"""What a stream's rules read of an event: only that is decoded and put into the root of their expressions.

Where one rule sends a payload as it is and another one sends values of it, only their `when` decide how much
is read. Then an event is decoded as the one before it was needed: events of a kind follow each other. If that
was too little, the rest is decoded when it is known that it is needed.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from msgspec import Struct

from config.expressions.reading import Path
from proxy.core import json_codec
from proxy.core.events import Event
from proxy.core.json_parts import Decode, decoder

PAYLOAD: Final[Path] = ("payload",)

_AS_THEY_ARE: Final = frozenset(Event.__struct_fields__) - {"type", "payload", "metadata", "first_index"}
"""Fields whose value in the root is that of the event; type and payload are in every root."""


class Reading(Struct):
    """How chunks are decoded, and which further fields a root has; None: all of them.

    `is_mixed`: some rules read all of a payload, and `decode` may make less. `expects_all`: it is decoded as
    a whole at once.
    """

    decode: Decode
    fields: tuple[str, ...] | None
    is_mixed: bool = False
    expects_all: bool = False


WHOLE: Final = Reading(json_codec.decode, None)
"""Everything is read."""


def reading_of(paths: Set[Path], *, decodes: bool, mixed: bool) -> Reading:
    """What is read where `paths` of the root are; `decodes`: chunks may be read as JSON.

    `mixed`: some rules read all of a payload.
    """
    if not all(paths):
        return WHOLE
    names = {str(path[0]) for path in paths}
    fields = None if names & {"metadata", "first_index"} else tuple(sorted(names & _AS_THEY_ARE))
    of_payload = [path[1:] for path in paths if path[0] == "payload"]
    if not decodes or not all(of_payload):
        return Reading(json_codec.decode, fields)
    return Reading(decoder(of_payload), fields, mixed, mixed)
