"""Durations and sizes: an integer and a unit, with hints for values that only look like one.

In the YAML (validation context ``{"yaml": True}``) the unit is required; code gives seconds and bytes.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationInfo

from config.model.wording import Resolved, kind, wrong

DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h)")
SIZE: Final = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TOO_LONG: Final = wrong("out-of-range", "must not be longer than a year", "the longest value is 8760h")
LARGEST: Final = 1 << 40  # bytes: more than any machine's memory
BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def duration(least: float = 0.0) -> Callable[[Any, ValidationInfo], float]:
    """An integer and ``ms``, ``s``, ``m`` or ``h``, as seconds."""

    def read(value: Any, info: ValidationInfo) -> float:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and not (info.context or {}).get("yaml")
        ):
            return float(value)
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None and isinstance(value, str) and re.fullmatch(r"[0-9]+(ms|s|m|h)", value):
            raise TOO_LONG
        if match is None:
            raise wrong("duration", f"must be a duration, but this is {kind(value)}", duration_hint(value))
        seconds = int(match[1]) * SECONDS[match[2]]
        if seconds < least:
            raise wrong("out-of-range", f"must be at least {least:g}s")
        if seconds > 365 * 86400:
            raise TOO_LONG
        return seconds

    return read


def duration_hint(value: Any) -> str:
    """What to write instead of a value that is no duration."""
    form = "a whole number and ms, s, m or h, like 500ms, 15s, 5m, 1h"
    if isinstance(value, Resolved):
        return form
    written = str(value).strip()
    if re.fullmatch(r"[0-9]+", written):
        return f"write the unit too: `{written}s`; {form}"
    if match := re.fullmatch(r"([0-9]+):([0-9]{2})", written):
        return f"`{int(match[1]) * 60 + int(match[2])}s`, if minutes and seconds are meant; {form}"
    if match := re.fullmatch(r"([0-9]{1,6})h([0-9]{1,6})m", written):
        return f"one unit: `{int(match[1]) * 60 + int(match[2])}m`; {form}"
    if match := re.fullmatch(r"([0-9]{1,6})m([0-9]{1,6})s", written):
        return f"one unit: `{int(match[1]) * 60 + int(match[2])}s`; {form}"
    if match := re.fullmatch(r"([0-9]{1,3})\s*(d|days?)", written, re.IGNORECASE):
        return f"write hours: `{int(match[1]) * 24}h`; {form}"
    if match := re.fullmatch(r"([0-9]*\.[0-9]+)(s|m|h)?", written):
        millis = round(float(match[1]) * SECONDS[match[2] or "s"] * 1000)
        return f"no fractions: `{millis}ms`; {form}"
    if match := re.fullmatch(
        r"([0-9]{1,9})\s*(ms|millis\w*|s|sec\w*|m|min\w*|h|hours?)", written, re.IGNORECASE
    ):
        unit = match[2].lower()
        return f"write `{match[1]}{'ms' if unit.startswith(('ms', 'mil')) else unit[0]}`; {form}"
    return form


def size(value: Any, info: ValidationInfo) -> int:
    """An integer and ``B``, ``KiB``, ``MiB`` or ``GiB``, as bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and not (info.context or {}).get("yaml"):
        return value
    match = SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None and isinstance(value, str) and re.fullmatch(r"[0-9]+(B|KiB|MiB|GiB)", value):
        raise wrong("out-of-range", "must not be larger than 1024GiB", "the largest value is 1024GiB")
    if match is None:
        raise wrong("size", f"must be a size, but this is {kind(value)}", size_hint(value))
    count = int(match[1]) * BYTES[match[2]]
    if count < 1:
        raise wrong("out-of-range", "must be at least 1B")
    if count > LARGEST:
        raise wrong("out-of-range", "must not be larger than 1024GiB", "the largest value is 1024GiB")
    return count


def size_hint(value: Any) -> str:
    """What to write instead of a value that is no size."""
    form = "a whole number and B, KiB, MiB or GiB, like 512KiB, 1MiB"
    if isinstance(value, Resolved):
        return form
    written = str(value).strip()
    if re.fullmatch(r"[0-9]+", written):
        return f"write the unit too: `{written}B`; {form}"
    if match := re.fullmatch(r"([0-9]{1,9})\s*([kmg])i?b?", written, re.IGNORECASE):
        return f"write `{match[1]}{match[2].upper()}iB`; {form}"
    return form
