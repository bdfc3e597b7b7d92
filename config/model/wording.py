"""How error messages describe values: their type, the nearest valid word, and never a secret."""

import re
import unicodedata
from difflib import get_close_matches
from typing import Any, Final, cast

from pydantic_core import PydanticCustomError

REDACTED: Final = "[redacted]"
LONGEST_QUOTE: Final = 60  # characters of a value in a message: enough to find the value in the file


INVISIBLE: Final = re.compile(
    "[\u00a0\u00ad\u1680\u2000-\u200f\u2028\u2029\u202a-\u202f\u205f-\u2064\u3000\ufeff]"
)
"""Characters that look like a blank or like nothing; they come with what is copied from pages and chats."""

_BREAKING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Resolved(str):
    """Text that came from ``${…}``: never shown, and read as a number or a boolean where one is needed."""

    __slots__ = ()


def wrong(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """A validation error with code, message and hint; braces are doubled because pydantic formats it."""
    return PydanticCustomError(
        cast(Any, code), cast(Any, message.replace("{", "{{").replace("}", "}}")), {"hint": hint}
    )


def shown(value: object) -> str:
    """A value as a message may show it."""
    if isinstance(value, Resolved):
        return REDACTED
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    return f"`{text}`" if len(text) <= LONGEST_QUOTE else f"`{text[:LONGEST_QUOTE]}…`"


def character(one: str) -> str:
    """An invisible character's name and number."""
    name = unicodedata.name(one, "control character").lower()
    return f"a {name} (U+{ord(one):04X})"


def on_one_line(text: str) -> str:
    """`text` with its line breaks and control characters as escapes: a name of a file may have any."""
    return _BREAKING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def flaw(text: str) -> str:
    """What is wrong at the ends of a value, as environment files make it; empty where nothing is."""
    if not text.strip():
        return ""
    for end, place in ((text[0], "begins with"), (text[-1], "ends in")):
        if end in "\r\n":
            return f"{place} a line break"
        if end in " \t":
            return f"{place} a blank"
        if INVISIBLE.match(end):
            return f"{place} {character(end)}"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return "has quotes around it"
    return ""


def kind(value: object) -> str:
    """A value's type and text, described as YAML."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the boolean {shown(value)}"
    if isinstance(value, int | float):
        return f"the number {shown(value)}"
    if isinstance(value, dict):
        return "a mapping (`key: value`)"
    if isinstance(value, list | tuple):
        return "a list"
    found = flaw(str(value))
    return f"the text {shown(value)}" + (f", which {found}" if found else "")


def nearest(value: Any, choices: tuple[str, ...] | list[str]) -> str:
    """``did you mean …?``, or nothing."""
    if not isinstance(value, str) or isinstance(value, Resolved):
        return ""
    low = {choice.lower(): choice for choice in choices}
    found = get_close_matches(value.lower(), low, n=1)
    return f"did you mean `{low[found[0]]}`?" if found else ""


def alternatives(choices: tuple[str, ...]) -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{choice}`" for choice in choices]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
