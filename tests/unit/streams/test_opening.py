"""The cursors of a run's channels: of one process, and in a log that replicas share."""

from __future__ import annotations

from typing import Any, cast

import pytest

from config.model.files import StreamConfig
from proxy.log.fences import Fence, Fences, new_generation
from proxy.log.frames import Frames
from proxy.log.shared_frames import SharedFrames
from proxy.rules.ruleset import Rules
from proxy.streams.opening import RunCursors
from proxy.streams.stream import LiveStream
from tests.support.streams import stream_of
from tests.unit.streams.test_dispatcher import RUN

PLAIN = "- {events: step_stream, data: payload}"
WHOLE = "- {events: step_stream, steps: answer, whole: payload.text, data: payload}"
MERGED = "- {events: step_stream, steps: answer, merge: 20ms, data: payload}"
AS_TEXT = "- {events: step_stream, steps: answer, as: text}"


def stream(rules: str, form: str = "sse") -> LiveStream:
    config: StreamConfig = stream_of(rules, form)
    return LiveStream(config, Rules(config), None, cast(Any, None))


def shared(secret: bytes = b"a") -> RunCursors:
    """The cursors of a run at one replica; `secret` is the replica's own."""
    cursors = RunCursors(RUN, 1, team="t", secret=secret)
    cursors.share(Fences(new_generation(1_790_000_000_000, "x"), [Fence(1_790_000_000_000, 1, "a")]))
    return cursors


def third(cursors: Frames) -> bytes:
    """The cursor of the first frame of the item at position 3."""
    assert isinstance(cursors, SharedFrames)
    cursors.begin(3, 0)
    return cursors.at(1)


@pytest.mark.parametrize(
    ("rules", "form", "equal"),
    [(PLAIN, "sse", True), (WHOLE, "sse", False), (AS_TEXT, "ai-sdk", False), (MERGED, "sse", True)],
    ids=["plain", "whole", "a format", "merge"],
)
def test_replicas_that_began_at_different_positions_share_cursors_of_frames_that_need_no_earlier_item(
    rules: str, form: str, equal: bool
) -> None:
    one = shared().of_channel(stream(rules, form), "", first=1)
    other = shared(b"b").of_channel(stream(rules, form), "", first=3)
    assert (third(one) == third(other)) is equal


@pytest.mark.parametrize(
    ("rules", "form"),
    [(PLAIN, "sse"), (WHOLE, "sse"), (AS_TEXT, "ai-sdk"), (MERGED, "sse")],
    ids=["plain", "whole", "a format", "merge"],
)
def test_replicas_that_have_the_whole_run_share_all_cursors(rules: str, form: str) -> None:
    one = shared().of_channel(stream(rules, form), "", first=1)
    other = shared(b"b").of_channel(stream(rules, form), "", first=1)
    assert third(one) == third(other)


@pytest.mark.parametrize(("rules", "equal"), [(PLAIN, True), (MERGED, False)], ids=["plain", "merge"])
def test_two_channels_of_a_run_in_one_process_have_different_cursors_if_chunks_are_merged(
    rules: str, equal: bool
) -> None:
    cursors = RunCursors(RUN, 1, team="t", secret=b"a")
    one, other = (cursors.of_channel(stream(rules), "", first=1).at(1) for _ in range(2))
    assert (one == other) is equal
