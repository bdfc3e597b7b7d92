"""Step names as operators write them: names that no step of a Hatchet workflow can have."""

from __future__ import annotations

import re
from typing import Final

LEGAL: Final = re.compile(r"[a-zA-Z0-9.\-_*?]*")
"""A step's name, or a glob over such names. The engine refuses a workflow with any other name (its
``pkg/validator``: ``^[a-zA-Z0-9\\.\\-_]+$``)."""

CHARACTERS: Final = "a step's name has letters a-z and A-Z, digits, `.`, `-` and `_`"


def step_problem(name: str) -> tuple[str, str, str] | None:
    """Code, message and hint about a step's name or glob that no step can have; None where one can.

    Upper case is doubtful only: hatchet-sdk for Python lowers a step's name (``_parse_task_name`` in its
    ``runnables/workflow.py``), the SDKs for TypeScript and Go keep it.
    """
    shown = name if len(name) <= 60 else name[:60] + "…"
    if not LEGAL.fullmatch(name):
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and all(part and LEGAL.fullmatch(part) for part in parts):
            return (
                "step-name",
                f"`{shown}` is one name with a comma in it",
                f"write a list: [{', '.join(parts)}]",
            )
        return "step-name", f"no step can be called `{shown}`", CHARACTERS
    if name != name.lower():
        said = f"no Python step is called `{shown}`: the SDK turns a step's name into lower case"
        return "step-name", said, f"write `{name.lower()}`; only workers in TypeScript or Go keep upper case"
    return None
