"""JSON decoding and encoding: compact UTF-8 on one line, never NaN; a value survives encoding and decoding.

orjson does the work. Values that orjson refuses or changes (integers beyond 64 bits, half a surrogate pair,
nesting beyond its limit) are left to the standard library, which is slower and handles them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import orjson

_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")  # any digit to 0: then one search finds all
_LONG: Final = b"0" * 19  # orjson reads integers beyond 64 bits as floats
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


SCALAR: Final = 16  # bytes of memory that an element of an array or object takes beside its text, about
CONTAINER: Final = 64  # bytes that an empty array or object takes, about
MOST_VISITED: Final = 10_000  # values that `memory_of` looks at one by one: some milliseconds


class NotJson(ValueError):
    """The text is not JSON, or the value cannot be written as JSON; the message never quotes either."""


class NestedTooDeeply(NotJson):
    """The text is nested beyond what can be read."""


def decode(text: str) -> Any:
    """The value of a JSON text; raises NotJson."""
    if not _has_long_number(text):
        try:
            return orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            pass  # half a surrogate pair, or not JSON: the standard library decides which
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise NestedTooDeeply("is nested too deeply") from None
    except ValueError:
        raise NotJson("is not JSON") from None


def _has_long_number(text: str) -> bool:
    """Whether `text` has 19 digits in a row.

    Most texts are ruled out by every ninth character alone: two of any 19 neighbours are among them.
    """
    some = text[::9].encode("ascii", "replace").translate(_ZEROS)
    return b"00" in some and _LONG in text.encode("ascii", "replace").translate(_ZEROS)


def _no_constant(name: str) -> Any:
    raise NotJson("is not JSON")


def encode(value: Any) -> bytes:
    """`value` as JSON: one line, compact, UTF-8; infinities and NaN become null. Raises NotJson."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise NotJson("is nested too deeply to be written as JSON") from None
    except (TypeError, ValueError):
        raise NotJson("cannot be written as JSON") from None
    return _SURROGATE.sub(lambda half: f"\\u{ord(half.group()):04x}", text).encode()


def memory_of(value: Any) -> int:
    """About how many bytes of memory a decoded JSON value takes.

    The value is written once and its brackets and commas are counted, which takes some milliseconds for
    4 MB. What orjson cannot write (deep nesting, long integers) is estimated from its first values.
    """
    try:
        text = orjson.dumps(value)
    except TypeError:
        return _sampled_memory(value)
    return len(text) + SCALAR * text.count(b",") + CONTAINER * (text.count(b"[") + text.count(b"{"))


def _sampled_memory(value: Any) -> int:
    """The memory of the first `MOST_VISITED` values, and as much on average for those that are left."""
    waiting: list[Any] = [value]
    size = visited = 0
    while waiting and visited < MOST_VISITED:
        item = waiting.pop()
        visited += 1
        if isinstance(item, dict):
            size += CONTAINER
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            size += CONTAINER
            waiting.extend(item)
        else:
            size += SCALAR + (len(item) if isinstance(item, str) else 0)
    return size + size * len(waiting) // visited


def _finite(value: Any) -> Any:
    """`value` with infinities and NaN replaced by null, as orjson does."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
