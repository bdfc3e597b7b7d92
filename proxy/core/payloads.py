"""The payload of an ended attempt, from what the engine sends: an output, or a failure.

Outputs are JSON text whose equal value counts, not its text (the engine reorders keys). A failure's text is
`Type: message`, a traceback, and a line of the engine's own JSON, which is not shown to clients.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.core import json_codec

_TIMEOUTS: Final = ("Task exceeded ", "Task failed due to batch timeout")
_ENGINE_LINE: Final = '{"__hatchet_error_metadata__"'


def output(text: str | None) -> Any:
    """The value of a step's output; None for none; text that is no JSON stands for itself."""
    if not text:
        return None
    try:
        return json_codec.decode(text)
    except json_codec.NotJson:
        return text


def failure(text: str | None) -> dict[str, str]:
    """``{message, detail}``: the error's first line, and all of it without the engine's JSON line."""
    detail = (text or "").strip()
    if _ENGINE_LINE in detail:
        kept = [line for line in detail.split("\n") if not line.startswith(_ENGINE_LINE)]
        detail = "\n".join(kept).strip()
    return {"message": detail.partition("\n")[0].strip(), "detail": detail}


def timed_out(payload: Any) -> bool:
    """Whether that is a timeout's failure: the engine sends no event for it, and its text may be missing."""
    message = payload.get("message", "") if isinstance(payload, dict) else ""
    return not message or message.startswith(_TIMEOUTS)


def skipped(text: str | None) -> bool:
    """Whether a core state's output is the mark of a skipped step, ``{"skipped": true}``."""
    return bool(text) and len(text or "") < 32 and output(text) == {"skipped": True}
