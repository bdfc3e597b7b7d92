"""Transcript: what old editions of a message keep, and that it is bounded."""

from __future__ import annotations

from proxy.core.events import GapCause
from proxy.formats.transcript import MAX_EDITIONS, Part, Transcript


def delta(part: Part, text: str) -> bytes:
    return text.encode()


def lost(cause: GapCause, part: Part) -> bytes:
    return b"lost"


def changed(times: int) -> tuple[Transcript, int]:
    """A text, and data that is replaced `times` times; and what the transcript weighs before that."""
    log = Transcript(delta, lost)
    text, data = Part("text"), Part("data-plan")
    log.add(text, b"begin")
    log.append(text, "Hello")
    log.add(data, b"data 0")
    before = log.size
    for number in range(1, times + 1):
        log.replace(data, b"data %d" % number)
    return log, before


def test_the_message_before_a_change_can_be_made_again() -> None:
    log, _ = changed(2)
    assert log.between(0, 3) == [b"begin", b"Hello", b"data 0"]
    assert log.between(0, 4) == [b"begin", b"Hello", b"data 1"]
    assert log.between(0, 5) == [b"begin", b"Hello", b"data 2"]
    assert log.between(2, 3) == [b"data 0"]


def test_only_the_newest_editions_are_kept() -> None:
    log, _ = changed(100)
    few, _ = changed(MAX_EDITIONS)
    assert log.between(0, log.place - MAX_EDITIONS) is not None
    assert log.between(0, log.place - MAX_EDITIONS - 1) is None
    assert log.size <= few.size + 100


def test_old_editions_go_before_any_text_does() -> None:
    log, before = changed(5)
    assert log.size > before + 100
    log.trim(before + 100)
    assert log.size <= before + 100
    assert log.between(0, log.place) == [b"begin", b"Hello", b"data 5"]
    assert log.between(0, 3) is None
