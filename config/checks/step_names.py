"""Step names as operators write them: names that no step of a Hatchet workflow can have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import Final

from config.checks.paths import streams_of
from config.model.wording import INVISIBLE, character
from config.problems import WARNING
from config.source.nodes import Path, Source

LEGAL: Final = re.compile(r"[a-zA-Z0-9.\-_*?]*")
"""A step's name, or a glob over such names. The engine refuses a workflow with any other name (its
``pkg/validator``: ``^[a-zA-Z0-9\\.\\-_]+$``)."""

CHARACTERS: Final = "a step's name has letters a-z and A-Z, digits, `.`, `-` and `_`"

KEEP_CASE: Final = "only workers in TypeScript or Go keep upper case"


def step_problem(name: str) -> tuple[str, str, str] | None:
    """Code, message and hint about a step's name or glob that no step can have; None where one can.

    Upper case is doubtful only: hatchet-sdk for Python lowers a step's name (``_parse_task_name`` in its
    ``runnables/workflow.py``), the SDKs for TypeScript and Go keep it.
    """
    shown = name if len(name) <= 60 else name[:60] + "…"
    if not LEGAL.fullmatch(name):
        parts = [part.strip() for part in re.split(r"[,;|\s]", name.strip("[] ")) if part.strip()]
        if len(parts) > 1 and all(LEGAL.fullmatch(part) for part in parts):
            what = "a comma" if "," in name else "blanks" if " " in name else "a separator"
            hint = (
                "write a list: [" + ", ".join(f'"{part}"' if part[0] == "*" else part for part in parts) + "]"
            )
            return "step-name", f"`{shown}` is one name with {what} in it", hint
        if (found := INVISIBLE.search(name)) is not None:
            return "step-name", f"`{shown}` has {character(found[0])} in it", "delete it: it cannot be seen"
        return "step-name", f"no step can be called `{shown}`", CHARACTERS
    if name != name.lower():
        message = f"no Python step is called `{shown}`: the SDK turns a step's name into lower case"
        return (
            "step-name",
            message,
            f"write `{name.lower()}`; {KEEP_CASE}",
        )
    return None


def check_step_names(source: Source) -> None:
    """Warns of a step's name that is nearly another one of the file."""
    places: dict[str, list[Path]] = {}
    for _, path, block in streams_of(source):
        rules = block.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            if isinstance(rule, dict) and "steps" in rule:
                for place, name in source.names((*path, "rules", number, "steps")):
                    places.setdefault(name, []).append(place)
    for name, other in near_duplicates([name for name, found in places.items() for _ in found]):
        message = f"`{name}` is nearly the same as `{other}` elsewhere in this file: is the same step meant?"
        hint = f"write `{other}`, if that is meant"
        source.add(source.at(places[name][0]), "step-name", message, hint, WARNING)


def near_duplicates(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of steps' names of one file that are probably one name and a slip of the pen: (rarer, other)."""
    counts = Counter(name for name in names if LEGAL.fullmatch(name) and not _WILD.search(name))
    known = sorted(counts, key=lambda name: -counts[name])[:MOST_COMPARED]
    for number, name in enumerate(known):
        for other in known[:number]:
            if near(name, other):
                yield name, other
                break


def near(one: str, other: str) -> bool:
    """Whether two names differ by one or two letters of one of their words, as a slip of the pen does.

    Words that differ in their first letter (``encode``, ``decode``) or in their digits are different words.
    """
    left, right = _WORDS.findall(one), _WORDS.findall(other)
    if len(left) != len(right):
        return False
    differing = [(a, b) for a, b in zip(left, right, strict=True) if a != b]
    if len(differing) != 1:
        return False
    a, b = differing[0]
    if min(len(a), len(b)) < SHORTEST_WORD or a[0].lower() != b[0].lower() or a.isdigit() or b.isdigit():
        return False
    return sorted(a.lower()) == sorted(b.lower()) or SequenceMatcher(None, a, b).ratio() >= ALIKE


SHORTEST_WORD: Final = 4
"""Letters of a word in which a slip of the pen can be told from another word."""

ALIKE: Final = 0.85
"""How like two words are (difflib): one wrong letter of seven. ``upload`` and ``unload`` are less."""

MOST_COMPARED: Final = 200
"""Names of one file that are compared with each other; it takes a hundredth of a second."""

_WILD: Final = re.compile(r"[*?]")
_WORDS: Final = re.compile(r"[A-Za-z]+|[0-9]+")
