"""The clients: the picture that JavaScript and Python compute from frames, and the findings of `judge`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.eventsource import Frame, Parser
from tests.support.reference import RunPicture, TrueStep, Truth, judge
from tests.support.tools import ROOT, need

Frames = list[tuple[str, Any]]


def chunk(index: int | None, text: str, step: str = "write", attempt: int | None = 1) -> tuple[str, Any]:
    return ("token", {"step": step, "attempt": attempt, "index": index, "text": text})


def event(kind: str, step: str | None = "write", attempt: int | None = 1, **more: Any) -> tuple[str, Any]:
    return (
        "step",
        {"type": kind, "step": step, "attempt": attempt, "recovered": False, "payload": None, **more},
    )


def gap(step: str | None, attempt: int | None = None, cause: str = "upstream") -> tuple[str, Any]:
    return ("stream.gap", {"cause": cause, "step": step, "attempt": attempt, "missed": None})


def reset(attempt: int, step: str = "write") -> tuple[str, Any]:
    return ("stream.reset", {"step": step, "attempt": attempt})


def repair(index: int | None, text: str, attempt: int = 1) -> tuple[str, Any]:
    """A chunk that the proxy made from the step's output, for a rule with `whole`."""
    return (
        "token",
        {"step": "write", "attempt": attempt, "index": index, "text": text, "recovered": True},
    )


def reset_whole(attempt: int = 1, step: str = "write") -> tuple[str, Any]:
    return ("stream.reset", {"step": step, "attempt": attempt, "whole": True})


DONE = event("step_completed")
AGAIN = gap(None, None, "unknown_cursor")  # the stream starts from the beginning
END = ("stream.end", {"status": "completed"})


def picture_of(frames: Frames) -> RunPicture:
    picture = RunPicture()
    for name, data in frames:
        picture.frame(Frame(name, json.dumps(data)))
    return picture


def dump(picture: RunPicture) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "status": step.status,
            "attempt": step.attempt,
            "text": step.text,
            "complete": step.complete,
            "payload": step.payload,
        }
        for step in picture.steps.values()
    ]
    return {
        "status": picture.status,
        "ended": picture.ended,
        "complete": picture.complete,
        "payload": picture.payload,
        "gaps": len(picture.gaps),
        "steps": steps,
    }


# frames, then status, attempt, text and completeness of the step "write"
PICTURES: dict[str, tuple[Frames, str, int, str, bool]] = {
    "tokens of a step seen from its start": (
        [event("step_started"), chunk(0, "a"), chunk(1, "b"), DONE],
        "completed", 1, "ab", True,
    ),
    "a step joined late is incomplete": (
        [gap("write", 1, "joined_late"), chunk(4, "e"), chunk(5, "f")],
        "streaming", 1, "ef", False,
    ),
    "a gap in the middle leaves a hole": (
        [chunk(0, "a"), gap("write", 1), chunk(2, "c"), DONE],
        "completed", 1, "ac", False,
    ),
    "a gap that turns out to have lost nothing": (
        [chunk(0, "a"), gap("write", 1), chunk(1, "b"), DONE],
        "completed", 1, "ab", True,
    ),
    "a gap at the end of a step stays a doubt": (
        [chunk(0, "a"), gap("write", 1), DONE],
        "completed", 1, "a", False,
    ),
    "another attempt begins with nothing": (
        [chunk(0, "a"), event("step_retrying"), reset(2), chunk(0, "A", attempt=2)],
        "streaming", 2, "A", True,
    ),
    "a gap of an attempt that is over is forgotten": (
        [chunk(0, "a"), reset(2), gap("write", 1), chunk(0, "A", attempt=2)],
        "streaming", 2, "A", True,
    ),
    "a gap may be the first frame of an attempt": (
        [chunk(0, "a"), gap("write", 2, "joined_late"), chunk(3, "D", attempt=2)],
        "streaming", 2, "D", False,
    ),
    "the missing end of a text makes it complete": (
        [chunk(0, "a"), gap("write", 1), repair(1, "bc"), DONE],
        "completed", 1, "abc", True,
    ),
    "the end of a text with a hole leaves the hole": (
        [chunk(0, "a"), gap("write", 1), chunk(2, "c"), repair(3, "d"), DONE],
        "completed", 1, "acd", False,
    ),
    "the whole text after a reset replaces what the attempt streamed": (
        [gap("write", 1, "joined_late"), chunk(4, "e"), reset_whole(), repair(0, "abcde"), DONE],
        "completed", 1, "abcde", True,
    ),
    "the whole text after a reset needs no mark of its own": (
        [chunk(4, "e"), reset_whole(), ("token", {"step": "write", "text": "abcde"}), DONE],
        "completed", 1, "abcde", True,
    ),
    "the whole text of a step that streamed unseen": (
        [gap("write", 1, "joined_late"), repair(0, "abc"), DONE],
        "completed", 1, "abc", True,
    ),
    "another process sends the chunks of a repaired text again": (
        [chunk(0, "a"), repair(1, "bc"), DONE, AGAIN, chunk(0, "a"), chunk(1, "b"), chunk(2, "c"), DONE],
        "completed", 1, "abc", True,
    ),
    "another process sends the whole text of one that stands in part": (
        [chunk(0, "a"), AGAIN, repair(None, "abc"), DONE],
        "completed", 1, "abc", True,
    ),
    "another attempt makes a repaired text void": (
        [chunk(0, "a"), repair(1, "b"), reset(2), chunk(0, "A", attempt=2)],
        "streaming", 2, "A", True,
    ),
    "another process sends everything again": (
        [chunk(0, "a"), chunk(1, "b"), AGAIN, chunk(0, "a"), chunk(1, "b"), chunk(2, "c"), DONE],
        "completed", 1, "abc", True,
    ),
    "another process has not seen the middle": (
        [chunk(0, "a"), AGAIN, gap("write", 1, "joined_late"), chunk(3, "d"), DONE],
        "completed", 1, "ad", False,
    ),
    "a step that had ended whole stays whole": (
        [chunk(0, "a"), DONE, AGAIN, event("step_completed", recovered=True)],
        "completed", 1, "a", True,
    ),
    "an older attempt sent again changes nothing": (
        [chunk(0, "A", attempt=2), AGAIN, chunk(0, "a"), event("step_retrying"), reset(2)],
        "streaming", 2, "A", False,
    ),
    "a step that begins live after a gap is not doubted": (
        [gap(None, None, "backlog"), event("step_started"), chunk(0, "a"), DONE],
        "completed", 1, "a", True,
    ),
    "a step that began unseen after a gap is": (
        [gap(None, None, "backlog"), event("step_started", recovered=True), DONE],
        "completed", 1, "", False,
    ),
    "without indexes, order is trusted": (
        [("message", {"type": "step_stream", "step": "write", "payload": text}) for text in "abc"],
        "streaming", 1, "abc", True,
    ),
    "without indexes, a gap is never healed": (
        [
            ("message", {"type": "step_stream", "step": "write", "payload": "a"}),
            gap("write", 1),
            ("message", {"type": "step_stream", "step": "write", "payload": "b"}),
        ],
        "streaming", 1, "ab", False,
    ),
    "without indexes, a stream that begins again replaces the old text": (
        [
            ("message", {"type": "step_stream", "step": "write", "payload": "a"}),
            AGAIN,
            ("message", {"type": "step_stream", "step": "write", "payload": "a"}),
            ("message", {"type": "step_stream", "step": "write", "payload": "b"}),
        ],
        "streaming", 1, "ab", False,
    ),
    "without attempts, a reset empties what came before it": (
        [
            ("message", {"type": "step_stream", "step": "write", "payload": "a"}),
            reset(2),
            AGAIN,
            ("message", {"type": "step_stream", "step": "write", "payload": "a"}),
            reset(2),
            ("message", {"type": "step_stream", "step": "write", "payload": "B"}),
        ],
        "streaming", 2, "B", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PICTURES)
def test_the_picture_is_right_or_says_that_it_is_incomplete(case: str) -> None:
    frames, status, attempt, text, complete = PICTURES[case]
    step = picture_of(frames).steps["write"]
    assert (step.status, step.attempt, step.text, step.complete) == (status, attempt, text, complete)


@pytest.fixture(scope="module")
def javascript() -> Iterator[subprocess.Popen[str]]:
    """The JavaScript picture, asked line by line."""
    with subprocess.Popen(
        [need("node"), str(ROOT / "tests/e2e/js/pictures.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        yield node
        assert node.stdin is not None
        node.stdin.close()
        node.wait(10)


def in_javascript(node: subprocess.Popen[str], frames: Frames) -> Any:
    assert node.stdin is not None
    assert node.stdout is not None
    node.stdin.write(json.dumps(frames) + "\n")
    node.stdin.flush()
    return json.loads(node.stdout.readline())


@pytest.mark.parametrize("case", PICTURES)
def test_javascript_computes_the_same_picture(case: str, javascript: subprocess.Popen[str]) -> None:
    frames = PICTURES[case][0]
    assert in_javascript(javascript, frames) == dump(picture_of(frames))


LIFECYCLE = [
    f"step_{what}" for what in ("started", "retrying", "completed", "failed", "skipped", "cancelled")
]
names = st.sampled_from(["write", "read"])
attempts = st.sampled_from([None, 1, 2, 3])
any_frame = st.one_of(
    st.builds(
        lambda step, attempt, index, text: chunk(index, text, step, attempt),
        names, attempts, st.none() | st.integers(0, 5), st.sampled_from("abc"),
    ),
    st.builds(
        lambda kind, step, attempt, recovered: event(kind, step, attempt, recovered=recovered),
        st.sampled_from([*LIFECYCLE, "run_completed"]),
        st.none() | names, attempts, st.booleans(),
    ),
    st.builds(
        gap, st.none() | names, attempts, st.sampled_from(["joined_late", "backlog", "unknown_cursor"])
    ),
    st.builds(reset, st.integers(2, 3), names),
    st.builds(reset_whole, st.integers(1, 3), names),
    st.builds(repair, st.none() | st.integers(0, 4), st.sampled_from("xy"), st.integers(1, 3)),
    st.just(END),
    st.sampled_from([("message", "text"), ("message", None), ("message", [1]), ("message", {"other": 1})]),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(any_frame, max_size=30))
def test_both_see_the_same_in_any_frames(frames: Frames, javascript: subprocess.Popen[str]) -> None:
    assert in_javascript(javascript, frames) == dump(picture_of(frames))


TRUTH = Truth("completed", {"write": TrueStep("completed", ("a", "b", "c"))})
WHOLE: Frames = [event("step_started"), chunk(0, "a"), chunk(1, "b"), chunk(2, "c"), DONE, END]

VERDICTS: dict[str, tuple[Frames, list[str]]] = {
    "the whole run": (WHOLE, []),
    "an announced gap": ([WHOLE[0], WHOLE[1], gap("write", 1), *WHOLE[3:]], []),
    "a gap before the end": ([*WHOLE[:2], gap("write", 1), *WHOLE[4:]], []),
    "a chunk lost without a gap": (
        [*WHOLE[:2], *WHOLE[3:]],
        ["write: chunks 1 to 1 of attempt 1 lost without a gap"],
    ),
    "the last chunk lost without a gap": ([*WHOLE[:3], *WHOLE[4:]], ["write: 1 chunks lost without a gap"]),
    "a chunk doubled": (
        [*WHOLE[:3], *WHOLE[2:]],
        ["('step_stream', 'write', 1, 1) doubled"],
    ),
    "an event doubled": ([WHOLE[0], *WHOLE], ["('step_started', 'write', 1, None) doubled"]),
    "doubled by another process": ([*WHOLE[:3], AGAIN, *WHOLE], []),
    "out of order": (
        [*WHOLE[:1], gap("write", 1), WHOLE[2], WHOLE[1], *WHOLE[3:]],
        ["('step_stream', 'write', 1, 0) out of order"],
    ),
    "a false end": (
        [*WHOLE[:5], ("stream.end", {"status": "failed"})],
        ["a false end: failed, in truth completed"],
    ),
    "no end": (WHOLE[:5], ["no verified end"]),
    "something after the end": (
        [*WHOLE, DONE],
        ["step after the verified end", "('step_completed', 'write', 1, None) doubled"],
    ),
    "another text": (
        [WHOLE[0], chunk(0, "x"), *WHOLE[2:]],
        ["write: a chunk that was never sent", "write: 0 chunks lost without a gap"],
    ),
    "a step too few": ([END], ["write: never received"]),
    "a step too many": ([event("step_started", "read"), *WHOLE], ["read: no such step"]),
    "another ending": (
        [*WHOLE[:4], event("step_failed"), END],
        ["write: failed, in truth completed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VERDICTS)
def test_the_judge_finds_losses_without_a_gap(case: str) -> None:
    frames, verdict = VERDICTS[case]
    found = judge(picture_of(frames), TRUTH)
    assert found == verdict


def test_the_follower_behaves_as_documented() -> None:
    ran = subprocess.run(
        [need("node"), "--test", "follower.test.mjs"],
        cwd=ROOT / "tests/e2e/js",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


STREAM = (
    b"\xef\xbb\xbf: hello\nretry: 250\nid: 1\nevent: token\ndata: {\"a\":\ndata:1}\n\n"
    b"data: x\r\n\r\nid\ndata\n\nid: a\0b\ndata:  y\r\rretry: 2s\n\nevent: lost\n\ndata: unfinished"
)  # fmt: skip
FRAMES = [
    Frame("token", '{"a":\n1}', "1"),
    Frame("message", "x", "1"),
    Frame("message", "", ""),
    Frame("message", " y", ""),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_bytes_become_frames_as_the_standard_says_however_they_are_cut(size: int) -> None:
    parser = Parser()
    frames = [frame for at in range(0, len(STREAM), size) for frame in parser.feed(STREAM[at : at + size])]
    assert frames == FRAMES
    assert (parser.retry, parser.comments) == (250, 1)
