"""Decodes of a JSON text only the parts that somebody reads: what nobody reads is checked, but not made.

    decoder([("order", "id"), ("n",)])('{"order": {"id": 7, "total": 9}, "items": [...], "n": 1}')
        ->  {"order": {"id": 7}, "n": 1}

A chunk of 1 KB from which six values are sent is decoded in half of the time that way (docs/performance.md).
msgspec does the work. A text that does not have the expected form is left to `json_codec.decode`, which
decodes all of it or says why that is not possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypedDict

import msgspec

from proxy.core import json_codec

Key = str | int
Decode = Callable[[str], Any]

_SCALAR: Final[Any] = str | int | float | bool | None
_NOT_THAT_FORM: Final = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)


def decoder(paths: Iterable[tuple[Key, ...]]) -> Decode:
    """A function like `json_codec.decode` whose values need to have no more than what lies at `paths`.

    A path's names lead into objects, its numbers into arrays. The empty path is the whole value. Without any
    path all of it is made, too: it may have any form.
    """
    wanted = [tuple(path) for path in paths]
    form = _form(wanted) if wanted else Any
    if form is Any:
        return json_codec.decode
    decode_parts = msgspec.json.Decoder(form).decode

    def decode(text: str) -> Any:
        try:
            return decode_parts(text)
        except _NOT_THAT_FORM:
            return json_codec.decode(text)

    return decode


def _form(paths: list[tuple[Key, ...]]) -> Any:
    """The type of a value of which `paths` are read."""
    if not all(paths):
        return Any
    below: dict[str, list[tuple[Key, ...]]] = {}
    elements: list[tuple[Key, ...]] = []
    for key, *rest in paths:
        if isinstance(key, int):
            elements.append(tuple(rest))
        elif key.isascii():
            below.setdefault(key, []).append(tuple(rest))
        else:
            return Any  # msgspec 0.22 does not find such a name in a TypedDict
    form = _SCALAR
    if below:
        fields = {key: _form(rest) for key, rest in below.items()}
        form |= TypedDict("Parts", fields, total=False)  # type: ignore[operator] # made at run time
    if elements:
        form |= list[_form(elements)]  # type: ignore[misc] # likewise
    return form
