"""Writes the lines of `EventLog`: readable text on a terminal, JSON everywhere else.

- A text cannot start a line of its own or move the cursor: control characters are escaped and lengths are
  bounded.
- An exception is written as its type and its stack frames. Its message is written only for types whose
  messages never hold a payload (`SPEAKING`). Other objects are written as their type.
- Text that looks like a token is redacted wherever it stands. This is the last safeguard, not the first.
- Frequent lines (`MANY`) are buffered for `MOMENT` seconds and written together, which costs less than one
  write each. The order of lines is kept.
- A log that cannot be written to (full disk, closed pipe) never stops a stream.

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
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from proxy.core import json_codec
from proxy.hatchet.errors import HatchetError
from proxy.observability.event_log import EventLog

Said = tuple[datetime, str, str, Mapping[str, Any]]  # when, a level, the sentence and its fields
Soon = Callable[[Callable[[], None]], object]
LEVELS: Final = ("debug", "info", "warning", "error")
SPEAKING: Final = (HatchetError, OSError)
MAX_TEXT: Final = 500  # characters of one field: a sentence fits, a payload does not
MAX_ITEMS: Final = 20  # of a list in a field
MAX_CHAIN: Final = 5  # exceptions told with the one that was caught
MAX_WAITING: Final = 100  # lines that wait to be written together: some 30 KB
MANY: Final = frozenset({"stream over"})  # lines of which a thousand a second are no trouble
MOMENT: Final = 0.05  # seconds that a line may wait: who follows a log on a screen sees no difference
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


class Log:
    """Writes to one text stream; `human` None: as the stream is a terminal or not."""

    def __init__(
        self, out: TextIO, *, human: bool | None = None, level: str = "info", soon: Soon | None = None
    ) -> None:
        """`soon` calls back within a moment: until then lines of `MANY` wait, to be written together.

        The order stays: any other line takes those that wait with it.
        """
        self._out = out
        self._soon = soon
        self._said: list[Said] = []  # that waits to be written
        self._human = out.isatty() if human is None else human
        self._line = _person(out) if self._human else _machine
        self._levels = frozenset(LEVELS[LEVELS.index(level) :])

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Write one line; never raises."""
        if level not in self._levels:
            return
        self._said.append((datetime.now(UTC), level, event, fields))
        if self._soon is None or event not in MANY or len(self._said) >= MAX_WAITING:
            self.flush()
        elif len(self._said) == 1:
            self._soon(self.flush)

    def flush(self) -> None:
        """Write what waits; never raises."""
        said, self._said = self._said, []
        if said:
            text = None if self._human else _simple(said)
            if text is None:
                text = "".join([self._line_of(*one) + "\n" for one in said])
            with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
                self._out.write(text)
                self._out.flush()

    def _line_of(self, when: datetime, level: str, event: str, fields: Mapping[str, Any]) -> str:
        told = {key: plain(value) for key, value in fields.items()}
        if self._human and isinstance(told.get("error"), list):
            told["exception"] = "\n".join(f"    | {line}" for line in told.pop("error"))
        return self._line(when, level, clean(event), told)


def open_event_log(out: TextIO | None = None, *, human: bool | None = None, level: str = "info") -> EventLog:
    """The event log of the process, on standard error, with the libraries' loggers in it.

    Within a loop, lines of `MANY` are written together after a `MOMENT`, in order with all others.
    """
    log = Log(sys.stderr if out is None else out, human=human, level=level, soon=_in_a_moment())
    atexit.register(log.flush)  # where nobody came to say that all is stopped
    event_log = EventLog(log.write, flush=log.flush)
    adopt(event_log)
    return event_log


def _in_a_moment() -> Soon | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None

    return lambda call: None if loop.is_closed() else loop.call_later(MOMENT, call)


def adopt(event_log: EventLog) -> None:
    """Lead every library's logger to `event_log`."""
    root = logging.getLogger()
    root.handlers[:] = [_Foreign(event_log)]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.disabled = name == "uvicorn.access"
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)


class _Foreign(logging.Handler):
    """A library's record to the event log."""

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
    """`text` as it may stand in a line: bounded, without control characters, without tokens."""
    short = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    if "eyJ" in short or "Bearer " in short or "ticket=" in short:  # which every match has
        short = _SECRET.sub("[redacted]", short)
    return short if short.isascii() and short.isprintable() else _UNPRINTABLE.sub(_escape, short)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain(value: Any) -> Any:
    """`value` as a field: texts cleaned, exceptions as their places, other objects by their type alone."""
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
    """An exception, the places it went through, and what it came from."""
    told: list[str] = []
    link: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if link is None:
            break
        told.append(type(link).__name__ + (f": {clean(str(link))}" if isinstance(link, SPEAKING) else ""))
        told += _frames(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return told


def _frames(error: BaseException) -> list[str]:
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"  {'/'.join(code.co_filename.split('/')[-2:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-MAX_PLACES:]


# -- lines --

Line = Callable[[datetime, str, str, dict[str, Any]], str]
"""When it was said, a level, the sentence and its fields as one line."""

_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})


def _simple(said: Sequence[Said]) -> str | None:
    """`_machine`'s lines of fields that need no cleaning, told by one look at all; None where one may.

    Every stream's end is such a line. JSON escapes with a backslash what `clean` would, but for what is not
    ASCII, and DEL.
    """
    if not all(_AS_THEY_ARE.issuperset(map(type, fields.values())) for _, _, _, fields in said):
        return None
    lines = [_machine(*one) for one in said]
    text = " ".join(lines)
    if max(map(len, lines)) > MAX_TEXT or not (text.isascii() and text.isprintable()) or "\\" in text:
        return None
    if "eyJ" in text or "Bearer " in text or "ticket=" in text:
        return None
    return "\n".join(lines) + "\n"


def _machine(when: datetime, level: str, event: str, fields: Mapping[str, Any]) -> str:
    """JSON, with UTC in ISO 8601: every stream's end is a line, so it goes no way around."""
    at = when.isoformat(timespec="microseconds")[:-6] + "Z"
    return json_codec.encode({"timestamp": at, "level": level, "event": event, **fields}).decode()


def _person(out: TextIO) -> Line:
    """structlog's lines for a terminal, with the local time of day."""
    colours = out.isatty() and not os.environ.get("NO_COLOR")
    dev = _structlog().dev
    # plain: `places` has told the exception; with rich loaded, an old structlog warns that it cannot draw it
    render = dev.ConsoleRenderer(
        colors=colours, sort_keys=False, pad_event_to=0, exception_formatter=dev.plain_traceback
    )

    def line(when: datetime, level: str, event: str, fields: dict[str, Any]) -> str:
        at = when.astimezone().strftime("%H:%M:%S")
        return str(render(None, level, {"timestamp": at, "level": level, "event": event, **fields}))

    return line


def _structlog() -> Any:
    """structlog, without the rich that it would import for tracebacks of its own: 4 MB and 40 ms.

    Nothing is lost: tracebacks are told by `places`. Where rich is there already, it stays.
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
