"""The frames of one channel: numbered, bounded and sealable; dropped frames are reported as losses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.streams.backlog import MAX_LOSSES, OVERHEAD, Backlog, Frame, Loss


def chunk(body: bytes = b"c", step: str = "s", attempt: int = 1) -> Frame:
    return Frame(body, False, (step, attempt, None))


def lasting(name: str, body: bytes = b"l") -> Frame:
    return Frame(body, True, None, name)


def bodies(backlog: Backlog[Frame], place: int) -> list[bytes]:
    return [frame.body for frame in backlog.read(place)]


def test_frames_are_numbered_from_one_and_read_after_a_place() -> None:
    backlog = Backlog[Frame](10, 10_000)
    assert [backlog.append(chunk(body)) for body in (b"a", b"b", b"c")] == [1, 2, 3]
    assert bodies(backlog, 0) == [b"a", b"b", b"c"]
    assert bodies(backlog, 2) == [b"c"]
    assert bodies(backlog, 3) == []


def test_as_many_frames_are_kept_as_the_bound_says() -> None:
    backlog = Backlog[Frame](3, 10_000)
    for number in range(3):
        backlog.append(chunk(b"%d" % number))
    assert bodies(backlog, 0) == [b"0", b"1", b"2"]


def test_as_many_bytes_are_kept_as_the_bound_says() -> None:
    size = chunk(b"a").size
    backlog = Backlog[Frame](10, 2 * size)
    for body in (b"a", b"b"):
        backlog.append(chunk(body))
    assert bodies(backlog, 0) == [b"a", b"b"]


def test_the_oldest_chunks_go_first_and_are_counted_by_step_and_attempt() -> None:
    backlog = Backlog[Frame](3, 10_000)
    for number in range(5):
        backlog.append(chunk(b"%d" % number, "draft", 1 + number // 4))
    assert not backlog.reaches(0)
    assert backlog.reaches(2)
    assert bodies(backlog, 2) == [b"2", b"3", b"4"]
    assert backlog.losses(0) == [Loss("draft", 1, 2, until=2)]
    assert backlog.losses(1) == [Loss("draft", 1, None, until=2)]
    assert backlog.losses(2) == []


def test_lasting_frames_outlive_the_chunks_around_them() -> None:
    backlog = Backlog[Frame](4, 10_000)
    backlog.append(lasting("started", b"started"))
    for number in range(10):
        backlog.append(chunk(b"%d" % number))
    assert [(number, frame.body) for number, frame in backlog.aside(0)] == [(1, b"started")]
    assert backlog.aside(1) == []
    assert backlog.forgotten(0) == {}
    assert len(backlog) == 4


def test_large_lasting_frames_leave_half_of_the_bytes_to_the_newest_frames() -> None:
    size = lasting("step 0", b"l" * 1000).size
    backlog = Backlog[Frame](1000, 10 * size)
    for number in range(9):
        backlog.append(lasting(f"step {number}", b"l" * 1000))
    for _ in range(20):
        backlog.append(chunk(b"c" * 1000))
    assert [number for number, _ in backlog.aside(0)] == [5, 6, 7, 8, 9]
    assert len(backlog.read(backlog.first - 1)) == 5


def test_too_many_lasting_frames_are_forgotten_by_name() -> None:
    backlog = Backlog[Frame](4, 10_000)
    for number in range(10):
        backlog.append(lasting(f"step {number}"))
    assert len(backlog) == 4
    gone = backlog.forgotten(0)
    kept = [number for number, _ in backlog.aside(0)]
    recent = list(range(backlog.first, backlog.last + 1))
    assert sorted([*gone.values(), *kept, *recent]) == list(range(1, 11))


def test_lasting_frames_take_half_of_the_bounds_at_most() -> None:
    backlog = Backlog[Frame](20, 100_000)
    for number in range(30):
        backlog.append(lasting(f"step {number}"))
        backlog.append(chunk())
    for _ in range(30):
        backlog.append(chunk())
    assert len(backlog.aside(0)) <= 11
    assert len(backlog.read(backlog.first - 1)) >= 9


def test_the_losses_of_very_many_attempts_are_summed_up() -> None:
    backlog = Backlog[Frame](1, 100_000)
    for number in range(MAX_LOSSES + 101):
        backlog.append(chunk(step=f"step {number}"))
    losses = backlog.losses(0)
    assert len(losses) == MAX_LOSSES + 1
    assert losses[-1] == Loss(None, None, 100, until=MAX_LOSSES + 100)


def test_evicted_frames_are_let_go_in_a_long_stream() -> None:
    backlog = Backlog[Frame](10, 100_000)
    for _ in range(5000):
        backlog.append(chunk())
    assert len(backlog._recent) < 1000
    assert len(backlog) == 10


def test_the_newest_frame_is_kept_even_if_it_is_larger_than_the_bound() -> None:
    backlog = Backlog[Frame](10, 500)
    backlog.append(chunk(b"small"))
    backlog.append(chunk(b"x" * 1000))
    assert bodies(backlog, 1) == [b"x" * 1000]
    assert len(backlog) == 1


def test_every_change_of_size_is_reported() -> None:
    received: list[int] = []
    backlog = Backlog[Frame](2, 10_000, received.append)
    for body in (b"a", b"bb", b"ccc"):
        backlog.append(chunk(body))
    assert sum(received) == backlog.bytes == 5 + 2 * OVERHEAD
    backlog.drop()
    assert sum(received) == 0


def test_a_sealed_backlog_takes_nothing_more() -> None:
    backlog = Backlog[Frame](2, 100)
    backlog.seal()
    with pytest.raises(AssertionError):
        backlog.append(chunk())


@given(
    st.integers(1, 12),
    st.integers(200, 3000),
    st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.sampled_from("ab")), max_size=60),
)
def test_every_frame_is_kept_counted_or_remembered_whatever_comes(
    events: int, size: int, frames: list[tuple[bool, int, str]]
) -> None:
    backlog = Backlog[Frame](events, size)
    for number, (lasts, length, step) in enumerate(frames, 1):
        frame = lasting(str(number), b"l" * length) if lasts else chunk(b"c" * length, step)
        assert backlog.append(frame) == number
        assert len(backlog) == 1 or (len(backlog) <= events and backlog.bytes <= size)
    recent = backlog.last - backlog.first + 1
    lost = sum(loss.missed or 0 for loss in backlog.losses(0))
    assert recent + len(backlog.aside(0)) + len(backlog.forgotten(0)) + lost == len(frames)
    numbers = [number for number, _ in backlog.aside(0)] + list(backlog.forgotten(0).values())
    assert all(number < backlog.first for number in numbers)
    assert len(backlog.read(backlog.first - 1)) == recent
