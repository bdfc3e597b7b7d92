"""What is written for operators: one line each, nothing injected, no payload, no secret, bounded."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.hatchet.errors import HatchetAway
from proxy.observability.event_log import EventLog
from proxy.observability.log_writer import (
    MAX_WAITING,
    LogWriter,
    clean,
    open_event_log,
    plain,
    route_library_loggers,
)

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0ZW5hbnQifQ.c2lnbmF0dXJl"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Page:
    """An event log on a page, with a clock turned by hand."""

    def __init__(self, *, human: bool = False) -> None:
        self.out = io.StringIO()
        self.time = 0.0
        self.event_log = EventLog(LogWriter(self.out, human=human).write, now=lambda: self.time)

    @property
    def text(self) -> str:
        return self.out.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


def stream_over(event_log: EventLog, **changed: Any) -> None:
    fields: dict[str, Any] = {
        "team": "payments",
        "stream": "chat",
        "run": "11111111-2222-4333-8444-555555555555",
        "client": "192.0.2.7",
        "seconds": 12.34567,
        "frames": 42,
        "ending": "end",
        "traceparent": TRACE,
    }
    event_log.stream_over(**{**fields, **changed})


@pytest.fixture
def loggers() -> Iterator[None]:
    """Leaves the libraries' loggers as they were."""
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    kept = [
        (one, one.handlers[:], one.level, one.propagate, one.disabled)
        for one in map(logging.getLogger, names)
    ]
    yield
    logging.captureWarnings(False)
    for one, handlers, level, propagate, disabled in kept:
        one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled
        one.setLevel(level)


def test_a_streams_life_is_one_line() -> None:
    page = Page()
    stream_over(page.event_log)
    (line,) = page.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "stream over",
        "team": "payments",
        "stream": "chat",
        "run": "11111111-2222-4333-8444-555555555555",
        "client": "192.0.2.7",
        "seconds": 12.346,
        "frames": 42,
        "ending": "end",
        "traceparent": TRACE,
    }


def test_a_person_reads_the_same_on_one_line() -> None:
    page = Page(human=True)
    stream_over(page.event_log)
    assert page.text.count("\n") == 1
    assert "stream over" in page.text
    assert "ending=end" in page.text
    assert TRACE in page.text


@pytest.mark.parametrize("traceparent", [None, "", "user text", TRACE + "\n", TRACE.upper()])
def test_what_is_no_traceparent_is_not_written_as_one(traceparent: str | None) -> None:
    page = Page()
    stream_over(page.event_log, traceparent=traceparent)
    assert "traceparent" not in page.lines[0]


def test_a_broken_upstream_is_one_line_a_minute_and_says_how_many_there_were() -> None:
    page = Page()
    for second in range(0, 121):
        page.time = float(second)
        for _ in range(10):
            page.event_log.trouble("payments", HatchetAway("hatchet:7077 does not answer (UNAVAILABLE)"))
    assert [line.get("held_back") for line in page.lines] == [None, 599, 599]
    assert page.lines[0]["why"] == "hatchet:7077 does not answer (UNAVAILABLE)"


def test_two_teams_in_trouble_are_told_apart() -> None:
    page = Page()
    for team in ("payments", "search", "payments"):
        page.event_log.trouble(team, HatchetAway("away"))
    assert [line["team"] for line in page.lines] == ["payments", "search"]


def test_what_was_held_back_is_logged_even_if_it_never_happens_again() -> None:
    page = Page()
    for _ in range(5):
        page.event_log.refused("payments", "chat", "401", why="the token has expired")
    page.time = 61.0
    page.event_log.tick()
    last = page.lines[-1]
    assert (last["event"], last["line"], last["about"], last["times"]) == (
        "lines held back",
        "refused",
        ["payments", "chat", "401", "the token has expired"],
        4,
    )


def test_the_end_of_the_process_holds_nothing_back() -> None:
    page = Page()
    for _ in range(3):
        page.event_log.refused("payments", "chat", "404", why="there is no such run")
    page.event_log.stopped(seconds=0.5, left=0)
    assert [(line["event"], line.get("times")) for line in page.lines[1:]] == [
        ("lines held back", 2),
        ("stopped", None),
    ]


@pytest.mark.parametrize("human", [False, True])
@given(text=st.text(max_size=600))
def test_no_text_makes_a_second_line_or_speaks_to_the_terminal(human: bool, text: str) -> None:
    page = Page(human=human)
    stream_over(page.event_log, client=text, run=text)
    assert page.text.endswith("\n")
    shown = page.text[:-1]
    assert all(char.isprintable() or char.isspace() for char in shown if ord(char) < 0xA0)
    assert len(shown.splitlines()) == 1
    shown.encode()


def test_control_characters_stay_readable() -> None:
    assert clean("a\r\nb\x1b[2J\u2028c\u202e\ud800") == "a\\x0d\\x0ab\\x1b[2J\\u2028c\\u202e\\ud800"


def test_a_long_text_is_cut() -> None:
    assert clean("x" * 10_000) == "x" * 500 + "…"


@pytest.mark.parametrize("text", [f"token {TOKEN}", "Bearer abc.def-123", "/chat/1?ticket=abc.def&x=1"])
def test_what_looks_like_a_token_is_redacted(text: str) -> None:
    assert "[redacted]" in clean(text)
    for part in ("abc", "eyJ"):
        assert part not in clean(text)


def test_an_exception_is_its_type_and_places_never_its_message() -> None:
    try:
        try:
            raise ValueError("card 4242")
        except ValueError as error:
            raise KeyError("secret") from error
    except KeyError as error:
        shown = plain(error)
    assert shown[0] == "KeyError"
    assert "ValueError" in shown
    assert any("observability/test_log_writer.py" in line for line in shown)
    assert "4242" not in str(shown)
    assert "secret" not in str(shown)


def test_our_own_errors_and_the_systems_speak() -> None:
    assert plain(HatchetAway("hatchet:7077 refused"))[0] == "HatchetAway: hatchet:7077 refused"
    assert plain(ConnectionRefusedError(111, "Connection refused"))[0].endswith("Connection refused")


def test_an_object_is_logged_by_its_type_alone() -> None:
    assert plain({"card": "4242"}) == "<dict>"
    assert plain(["a\n", {"b": 1}]) == ["a\\x0a", "<dict>"]


def test_an_unexpected_error_is_readable_for_a_person() -> None:
    page = Page(human=True)
    page.event_log.foreign(
        "asyncio", "error", "Task exception was never retrieved", "it", RuntimeError("payload")
    )
    assert page.text.splitlines()[1] == "    | RuntimeError"
    assert "payload" not in page.text


def test_an_unexpected_error_is_one_line_where_rich_is_loaded_too() -> None:
    program = (
        "import sys, warnings, rich, structlog; warnings.simplefilter('error')\n"
        "from proxy.observability.log_writer import LogWriter\n"
        "from proxy.observability.event_log import EventLog\n"
        "EventLog(LogWriter(sys.stdout, human=True).write, now=lambda: 0.0).foreign(\n"
        "    'asyncio', 'error', 'Task exception was never retrieved', 'it', RuntimeError('payload'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "RuntimeError" in done.stdout


def test_a_log_that_cannot_be_written_to_stops_nobody() -> None:
    page = Page()
    page.out.close()
    stream_over(page.event_log)


def test_a_broken_file_is_logged_with_its_first_problems() -> None:
    page = Page()
    page.event_log.reload_failed(
        "payments", [f"teams/payments.yaml:{line}:1: unknown key" for line in range(1, 30)]
    )
    (line,) = page.lines
    assert (line["level"], line["found"], len(line["problems"])) == ("error", 29, 10)


def test_a_journal_without_a_place_to_write_is_silent() -> None:
    stream_over(EventLog())


def test_libraries_speak_through_the_journal_and_hold_their_reprs(loggers: None) -> None:
    page = Page()
    route_library_loggers(page.event_log)
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task exception=X('4242')>"
    )
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    shown = [(line["logger"], line["event"]) for line in page.lines]
    assert shown == [
        ("asyncio", "Task exception was never retrieved"),
        ("uvicorn.error", "Invalid HTTP request received."),
    ]


def test_a_library_that_floods_is_held_back_however_its_values_differ(loggers: None) -> None:
    page = Page()
    route_library_loggers(page.event_log)
    for number in range(1000):
        logging.getLogger("aiohttp.client").warning("connection %d broke", number)
    assert [line["event"] for line in page.lines] == ["connection 0 broke"]


def test_the_access_log_is_off_because_tickets_travel_in_query_strings(
    loggers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Page()
    route_library_loggers(page.event_log)
    logging.getLogger("uvicorn.access").error("GET /chat/1?ticket=abc")
    assert page.text == ""
    assert capsys.readouterr().err == ""


async def test_a_task_that_died_is_reported_without_its_reason(loggers: None) -> None:
    page = Page()
    route_library_loggers(page.event_log)
    loop = asyncio.get_running_loop()
    error = ValueError("4242")
    loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": error})
    assert "ValueError" in page.text
    assert "4242" not in page.text


def test_the_process_journal_writes_json_where_nobody_watches(loggers: None) -> None:
    out = io.StringIO()
    stream_over(open_event_log(out))
    assert json.loads(out.getvalue())["event"] == "stream over"


def test_rich_is_not_imported_for_the_sake_of_the_log() -> None:
    program = (
        "import sys; from proxy.observability.log_writer import open_event_log; open_event_log();"
        "before = 'rich' in sys.modules; import rich.console; print(before, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


SHORT = st.text(st.characters(codec="utf-8"), max_size=12)
PLANTED = st.sampled_from(
    [TOKEN, "Bearer abc", "ticket=abc", "\x7f", "\\", '"', "é", "x" * 500, "x" * 501, "},{"]
)
FIELDS = st.dictionaries(st.sampled_from("abcdef"), st.one_of(SHORT, PLANTED, st.integers(-9, 9), st.none()))


@given(FIELDS)
@example({"a": TOKEN})
@example({"a": "x" * 500, "b": 1.5})
@example({"a": "\x1b[2J", "b": "\u202e"})
@example({"a": "},{"})
def test_what_is_written_at_one_look_is_what_would_be_written_with_care(fields: dict[str, Any]) -> None:
    quick, careful = io.StringIO(), io.StringIO()
    LogWriter(quick, human=False).write("info", "said", fields)
    LogWriter(careful, human=False).write("info", "said", {**fields, "list": []})  # not simple
    shown = json.loads(careful.getvalue())
    del shown["list"], shown["timestamp"]
    line = json.loads(quick.getvalue())
    del line["timestamp"]
    assert line == shown
    assert quick.getvalue().count("\n") == 1


def test_ends_of_streams_are_written_together_and_in_order_with_all_others() -> None:
    out, calls = io.StringIO(), list[Callable[[], None]]()
    log = LogWriter(out, human=False, later=calls.append)
    event_log = EventLog(log.write, flush=log.flush)
    stream_over(event_log, frames=1)
    stream_over(event_log, frames=2)
    assert (out.getvalue(), len(calls)) == ("", 1)
    calls.pop()()
    assert [json.loads(line)["frames"] for line in out.getvalue().splitlines()] == [1, 2]
    stream_over(event_log, frames=3)
    event_log.draining(clients=1, grace=1.0)
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events == ["stream over"] * 3 + ["draining"]
    stream_over(event_log, frames=4)
    event_log.flush()
    assert len(out.getvalue().splitlines()) == 5


@pytest.mark.parametrize("client", ["192.0.2.7", "},{", "\x7f", "a\nb"])
def test_each_end_of_a_stream_is_a_line_whatever_its_texts_hold(client: str) -> None:
    out = io.StringIO()
    log = LogWriter(out, human=False, later=lambda call: None)
    event_log = EventLog(log.write, flush=log.flush)
    stream_over(event_log, frames=1)
    stream_over(event_log, frames=2, client=client)
    stream_over(event_log, frames=3)
    event_log.flush()
    assert [json.loads(line)["frames"] for line in out.getvalue().splitlines()] == [1, 2, 3]


def test_lines_that_wait_are_bounded() -> None:
    out = io.StringIO()
    event_log = EventLog(LogWriter(out, human=False, later=lambda call: None).write)
    for _ in range(MAX_WAITING):
        stream_over(event_log)
    assert len(out.getvalue().splitlines()) == MAX_WAITING


def test_what_waits_is_out_when_the_process_ends() -> None:
    code = (
        "import asyncio\n"
        "from proxy.observability.log_writer import open_event_log\n"
        "async def main():\n"
        "    open_event_log(human=False).stream_over(team='t', stream='s', run='r', client='c',\n"
        "                                          seconds=1.0, frames=1, ending='left')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["ending"] == "left"
