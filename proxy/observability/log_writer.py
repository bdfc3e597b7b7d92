"""Writes the lines of `EventLog`: readable text on a terminal, JSON everywhere else.

- A text cannot start a line of its own or move the cursor: control characters are escaped and lengths are
  bounded.
- An exception is written as its type and its stack frames. Its message is written only for types whose
  messages never hold a payload (`SAFE_MESSAGES`). Other objects are written as their type.
- Text that looks like a token is redacted in every field. This is the last safeguard, not the first.
- Frequent lines (`MANY`) are buffered for `MOMENT` seconds and written together, which costs less than one
  write each. The order of lines is kept.
- A log that cannot be written to (full disk, closed pipe, a reader that stopped reading) never stops a
  stream: see `LogPipe`.

The loggers of libraries (uvicorn, asyncio, aiohttp) are routed to the event log from level WARNING on. Only
the first line of each record is kept, because the others hold reprs, and each kind of line is written once a
minute. The access log of uvicorn stays off: it would write query strings, which hold tickets.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol, TextIO

from proxy.core import json_codec
from proxy.hatchet.errors import HatchetError
from proxy.observability.event_log import EventLog, Write
from proxy.observability.log_pipe import LogPipe

Entry = tuple[float, str, str, Mapping[str, Any]]
"""When it was logged (Unix seconds), the level, the sentence and its fields."""
Later = Callable[[Callable[[], None]], object]
LEVELS: Final = ("debug", "info", "warning", "error")
SAFE_MESSAGES: Final = (HatchetError, OSError)  # exceptions whose messages never quote a payload
MAX_TEXT: Final = 500  # characters of one field: a sentence fits, a payload does not
MAX_ITEMS: Final = 20  # of a list in a field
MAX_CHAIN: Final = 5  # exceptions in a chain of causes
MAX_WAITING: Final = 100  # lines that wait to be written together: some 30 KB
MANY: Final = frozenset({"stream over"})  # lines that may come a thousand times a second
MOMENT: Final = 0.05  # seconds that such a line may wait; too short to notice in a log
LAST_WORDS: Final = 1.0  # seconds that the end of the process waits for a reader of the log, once
MAX_PLACES: Final = 12  # of a traceback, the innermost

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: line breaks, escapes of a terminal
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they make a line read as another
    "\u2028\u2029\ufeff\ud800-\udfff]"  # separators, and what UTF-8 cannot hold
)
_SECRET: Final = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JWT: Hatchet's tokens are JWTs too
    r"|(?<=\bBearer )[\w.~+/=-]+"
    r"|(?<=\bticket=)[^&\s]+"
)


class Out(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> object:
        """Take whole lines. Raises OSError or ValueError."""

    def flush(self) -> None:
        """Write what is buffered. Raises OSError or ValueError."""


class LogWriter:
    """Writes lines to `out`: readable ones if `human`, else JSON."""

    def __init__(
        self,
        out: Out,
        *,
        human: bool = False,
        colours: bool = False,
        level: str = "info",
        later: Later | None = None,
    ) -> None:
        """`later` schedules a call: until then lines of `MANY` wait and are written together.

        The order of lines is kept: any other line is written after those that wait. Without `later` every
        line is written at once.
        """
        self._out = out
        self._later = later
        self._waiting: list[Entry] = []
        self._human = human
        self._line = _human_line(colours) if self._human else _json_line
        self._levels = frozenset(LEVELS[LEVELS.index(level) :])

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Write one line; never raises."""
        if level not in self._levels:
            return
        self._waiting.append((time.time(), level, event, fields))
        if self._later is None or event not in MANY or len(self._waiting) >= MAX_WAITING:
            self.flush()
        elif len(self._waiting) == 1:
            self._later(self.flush)

    def flush(self) -> None:
        """Write the lines that wait; never raises."""
        entries, self._waiting = self._waiting, []
        if entries:
            text = None if self._human else _simple(entries)
            if text is None:
                text = "".join([self._line_of(*entry) + "\n" for entry in entries])
            with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
                self._out.write(text)
                self._out.flush()

    def _line_of(self, when: float, level: str, event: str, fields: Mapping[str, Any]) -> str:
        cleaned = {key: plain(value) for key, value in fields.items()}
        if self._human and isinstance(cleaned.get("error"), list):
            cleaned["exception"] = "\n".join(f"    | {line}" for line in cleaned.pop("error"))
        return self._line(when, level, clean(event), cleaned)


def open_event_log(
    out: TextIO | None = None,
    *,
    human: bool | None = None,
    level: str = "info",
    worker: int | None = None,
) -> EventLog:
    """The event log of the process, on standard error, with the loggers of libraries routed to it.

    Within an event loop, lines of `MANY` are written together after a `MOMENT`. `worker`: a number that each
    line has, where several processes write to one log.
    """
    out = sys.stderr if out is None else out
    human = out.isatty() if human is None else human
    pipe = _pipe(out)
    writer = LogWriter(
        out if pipe is None else pipe,
        human=human,
        colours=out.isatty() and not os.environ.get("NO_COLOR"),
        level=level,
        later=_on_this_loop(),
    )

    def flush() -> None:
        writer.flush()
        if pipe is not None:
            pipe.drain(LAST_WORDS)

    atexit.register(flush)  # for a process that ends without `EventLog.stopped`
    write = writer.write if worker is None else _with_worker(writer.write, worker)
    event_log = EventLog(write, flush=flush, dropped=pipe)
    route_library_loggers(event_log)
    return event_log


def _with_worker(write: Write, worker: int) -> Write:
    def write_with_worker(level: str, event: str, fields: Mapping[str, Any]) -> None:
        write(level, event, {**fields, "worker": worker})

    return write_with_worker


def _pipe(out: TextIO) -> LogPipe | None:
    """A pipe to the file of `out`; None where it has none (a test's buffer) and never blocks."""
    try:
        descriptor = out.fileno()
    except (OSError, ValueError, AttributeError):
        return None
    with contextlib.suppress(OSError, ValueError):
        out.flush()
    return LogPipe(descriptor)


def _on_this_loop() -> Later | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None

    return lambda call: None if loop.is_closed() else loop.call_later(MOMENT, call)


def route_library_loggers(event_log: EventLog) -> None:
    """Send the records of every library's logger to `event_log`, from WARNING on."""
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(event_log)]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.disabled = name == "uvicorn.access"
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)


class _LibraryHandler(logging.Handler):
    """Passes a library's record to the event log."""

    def __init__(self, event_log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._event_log = event_log

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip().split("\n", 1)[0]
        error = record.exc_info[1] if record.exc_info else None
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._event_log.foreign(
            record.name, level, text, str(record.msg).strip().split("\n", 1)[0][:MAX_TEXT], error
        )


# -- texts --


def clean(text: str) -> str:
    """`text` made safe for a line: cut to `MAX_TEXT`, control characters escaped, tokens redacted."""
    short = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    if "eyJ" in short or "Bearer " in short or "ticket=" in short:  # every match of `_SECRET` has one of them
        short = _SECRET.sub("[redacted]", short)
    return short if short.isascii() and short.isprintable() else _UNPRINTABLE.sub(_escape, short)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain(value: Any) -> Any:
    """`value` made safe for a field: text cleaned, an exception as stack frames, other objects as types."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return places(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value[:MAX_ITEMS]]
    return f"<{type(value).__name__}>"


def places(error: BaseException) -> list[str]:
    """The type and the stack frames of an exception and of its causes, one string each."""
    lines: list[str] = []
    link: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if link is None:
            break
        message = f": {clean(str(link))}" if isinstance(link, SAFE_MESSAGES) else ""
        lines.append(type(link).__name__ + message)
        lines += _frames(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return lines


def _frames(error: BaseException) -> list[str]:
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"  {'/'.join(code.co_filename.split('/')[-2:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-MAX_PLACES:]


# -- lines --

Line = Callable[[float, str, str, dict[str, Any]], str]
"""Makes one line of an entry."""

_PLAIN_TYPES: Final = frozenset({str, int, float, bool, type(None)})


def _simple(entries: Sequence[Entry]) -> str | None:
    """The lines of `_json_line` if no field of `entries` needs `plain`; None if one may.

    The end of every stream is such a line, so this is the common case, decided by one check of all lines
    together: JSON writes a backslash for what `clean` would escape, except for DEL and what is not ASCII.
    """
    if not all(_PLAIN_TYPES.issuperset(map(type, fields.values())) for _, _, _, fields in entries):
        return None
    text = json_codec.encode([_json_fields(*entry) for entry in entries]).decode()
    if not text.isascii() or "\\" in text or "\x7f" in text:
        return None
    if "eyJ" in text or "Bearer " in text or "ticket=" in text:
        return None
    lines = text[1:-1].split("},{")  # no other place of the array can look so, unless a text has it
    if len(lines) != len(entries) or max(map(len, lines)) > MAX_TEXT:
        return None
    return "}\n{".join(lines) + "\n"


def _json_line(when: float, level: str, event: str, fields: Mapping[str, Any]) -> str:
    """JSON with UTC in ISO 8601. Without structlog, because the end of every stream is such a line."""
    return json_codec.encode(_json_fields(when, level, event, fields)).decode()


def _json_fields(when: float, level: str, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    second = int(when)
    at = f"{_utc(second)}.{int((when - second) * 1e6):06}Z"
    return {"timestamp": at, "level": level, "event": event, **fields}


@lru_cache(maxsize=8)
def _utc(second: int) -> str:
    """A second of Unix time in ISO 8601. Cached, because lines come in hundreds per second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _human_line(colours: bool) -> Line:
    """The lines of structlog for a terminal, with the local time of day."""
    dev = _structlog().dev
    # the exception is a field already (`places`); with rich loaded, an old structlog would warn about it
    render = dev.ConsoleRenderer(
        colors=colours, sort_keys=False, pad_event_to=0, exception_formatter=dev.plain_traceback
    )

    def line(when: float, level: str, event: str, fields: dict[str, Any]) -> str:
        at = datetime.fromtimestamp(when).strftime("%H:%M:%S")
        return str(render(None, level, {"timestamp": at, "level": level, "event": event, **fields}))

    return line


def _structlog() -> Any:
    """structlog without rich, which it would import for tracebacks: 4 MB and 40 ms.

    Tracebacks come from `places`, so nothing is lost. If rich is loaded already, it stays.
    """
    if "rich" in sys.modules:
        import structlog  # noqa: PLC0415
    else:
        sys.modules["rich"] = None  # type: ignore[assignment] # the documented way to make an import fail
        try:
            import structlog  # noqa: PLC0415
        finally:
            del sys.modules["rich"]
    return structlog
