"""Cursors from headers: whose they are, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import sse
from proxy.log.cursor import Cursor, end_cursor, read_cursor, run_id_of
from proxy.log.frames import LocalFrames

RUN = "d8ed70df-0872-463a-9a78-d6bd88db0b34"


def ids(**changed: object) -> LocalFrames:
    parts = {"team": "t", "stream": "s", "run_id": RUN, "value": "", "rules": "r", "session": 1} | changed
    return LocalFrames(b"secret", **parts)  # type: ignore[arg-type]


def test_a_channels_frame_is_the_frame_with_its_cursor() -> None:
    channel = ids()
    for event in (None, "token", "\N{SNOWMAN}"):
        plain = sse.frame(b"{}", event=event, cursor=channel.at(42))
        assert channel.frame(42, event, b"{}") == plain


def test_a_cursor_comes_back_as_it_went() -> None:
    channel = ids()
    cursor = read_cursor(channel.at(42).decode())
    assert cursor is not None
    assert (cursor.run_id, cursor.place) == (RUN, 42)
    assert channel.holds(cursor)


@pytest.mark.parametrize(
    "changed",
    [
        {"team": "u"},
        {"stream": "z"},
        {"value": "v"},
        {"rules": "q"},
        {"session": 2},
        {"run_id": RUN[:-1] + "5"},
    ],
)
def test_a_cursor_of_another_channel_is_not_held(changed: dict[str, object]) -> None:
    cursor = read_cursor(ids(**changed).at(1).decode())
    assert cursor is not None
    assert not ids().holds(cursor)


def test_a_cursor_of_another_process_is_not_held() -> None:
    other = LocalFrames(b"other", team="t", stream="s", run_id=RUN, value="", rules="r", session=1)
    cursor = read_cursor(other.at(1).decode())
    assert cursor is not None
    assert not ids().holds(cursor)


def test_the_end_is_the_same_in_every_process_and_for_changed_rules() -> None:
    one = LocalFrames(b"one", team="t", stream="s", run_id=RUN, value="", rules="r", session=1)
    two = LocalFrames(b"two", team="t", stream="s", run_id=RUN, value="", rules="q", session=9)
    assert one.end == two.end == end_cursor("t", "s", RUN).encode()
    cursor = read_cursor(one.end.decode())
    assert cursor is not None
    assert cursor.place is None


def test_an_end_belongs_to_one_team_stream_run_and_value() -> None:
    ends = {
        end_cursor("t", "s", RUN),
        end_cursor("u", "s", RUN),
        end_cursor("t", "z", RUN),
        end_cursor("t", "s", RUN, "v"),
        end_cursor("ts", "", RUN),
    }
    assert len(ends) == 5


@given(st.text(max_size=200))
def test_any_text_is_a_cursor_or_none_and_never_an_error(text: str) -> None:
    cursor = read_cursor(text)
    assert cursor is None or isinstance(cursor, Cursor)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "x" * 9000, "\0", f"{RUN}.1.2", "é" * 22 + ".abc.1"]
)
def test_what_is_not_ours_is_no_cursor(text: str) -> None:
    assert read_cursor(text) is None


@pytest.mark.parametrize("place", ["01", "-1", "+1", "1e3", "9" * 40, "END", "٣"])
def test_a_place_is_a_plain_number_or_end(place: str) -> None:
    text = ids().at(1).decode().rsplit(".", 1)[0]
    assert read_cursor(f"{text}.{place}") is None


@pytest.mark.parametrize(
    ("text", "run_id"),
    [
        (RUN, RUN),
        (RUN.upper(), RUN),
        (RUN.replace("-", ""), None),
        ("{" + RUN + "}", None),
        ("urn:uuid:" + RUN, None),
        (RUN + " ", None),
        ("", None),
        (RUN.replace("d8ed70df-", "d8ed-70df"), None),
    ],
)
def test_a_run_id_is_a_uuid_in_its_usual_form_whatever_its_case(text: str, run_id: str | None) -> None:
    assert run_id_of(text) == run_id
