"""Items survive the log, whatever they hold."""

from __future__ import annotations

from typing import Any, Final

import pytest

from proxy.core.events import (
    RUN_COMPLETED,
    STEP_COMPLETED,
    STEP_STREAM,
    End,
    Event,
    Flush,
    GapCause,
    LogItem,
    Reset,
    StepGap,
)
from proxy.log.entries import ItemCodec, NotAnEntry

RUN: Final = "11111111-1111-4111-8111-111111111111"
STEP: Final = "22222222-2222-4222-8222-222222222222"
METADATA: Final = {"user": "u1", "tags": ["a"]}
CODEC: Final = ItemCodec(RUN, METADATA)


def chunk(text: str, index: int = 0, **more: Any) -> Event:
    fields = {"metadata": METADATA, "at": "2026-01-01T00:00:00Z", **more}
    return Event(STEP_STREAM, RUN, "answer", STEP, text, 1, index, **fields)


@pytest.mark.parametrize(
    "item",
    [
        chunk("hello"),
        chunk('quotes " and \\ and \n and \x00 and €', 7),
        chunk("half a pair \ud83d", 8),
        chunk(""),
        chunk("another run's", metadata={"other": True}),
        chunk("rebuilt", recovered=True),
        Event(
            STEP_COMPLETED, RUN, "answer", STEP, {"n": 2**80, "f": 1.5}, 2, metadata=METADATA, recovered=True
        ),
        Event(STEP_COMPLETED, RUN, "answer", STEP, None, None, metadata=METADATA),
        Event(RUN_COMPLETED, "33333333-3333-4333-8333-333333333333", payload=[1], metadata={}),
        chunk("with a name", workflow="chat"),
        chunk("of a child", parent={"run_id": RUN, "step": "spawn"}, first_index=3),
        Event(STEP_COMPLETED, RUN, "answer", STEP, 1, 1, metadata=METADATA, workflow="chat", parent={"a": 1}),
        StepGap(GapCause.UPSTREAM, "answer", 2, 3, "chat", RUN),
        StepGap(GapCause.UPSTREAM, "answer", 2, 3),
        StepGap(GapCause.UNKNOWN_CURSOR, None, None, None),
        Reset("answer", 2),
        Reset("answer", 2, whole=True, workflow="chat", run_id=RUN),
        End("cancelled"),
        Flush(50),
    ],
    ids=repr,
)
def test_an_item_is_read_as_it_was_written(item: LogItem) -> None:
    assert CODEC.decode(CODEC.encode(item)) == item


def test_the_runs_own_metadata_is_not_written() -> None:
    assert b"u1" not in CODEC.encode(chunk("x"))
    assert b"u1" not in CODEC.encode(chunk("x", metadata=dict(METADATA)))


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    body = CODEC.encode(chunk("x"))
    assert CODEC.decode(body[:-1] + b',"new",{}]') == chunk("x")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[9,1]", b"[0]", b"[0,1,2]", b"\xff", b"null", b"[4]"])
def test_what_is_no_item_is_refused(body: bytes) -> None:
    with pytest.raises(NotAnEntry):
        CODEC.decode(body)
