"""The rules of placement one by one: which execution sent a chunk."""

from __future__ import annotations

import pytest

from proxy.core.observations import LiveEvent
from proxy.runs.reconcile import placement
from proxy.runs.reconcile.placement import MOST_EXECUTIONS, Execution, Executions, Place, place
from proxy.runs.reconcile.timing import CLOCK_JITTER, CLOCK_SKEW
from tests.support.scenario import at, chunk

JUST = CLOCK_JITTER * 0.9
MORE = CLOCK_JITTER * 1.1


def execution(
    *received: tuple[int, float], emitted: int = 0, number: int = 1, forgotten: bool = False
) -> Execution:
    """An execution that sent chunks (index, time); the first `emitted` of them were emitted."""
    one = Execution(number, 0.0)
    for n, (index, t) in enumerate(received):
        one.note(index, at(t), 0.0)
        if n < emitted:
            one.emitted(index, at(t))
        else:
            one.held[index] = chunk(index, t)
    if forgotten:
        one.recent.clear()
    return one


def untimed(index: int) -> LiveEvent:
    event = chunk(index, 0.0)
    return LiveEvent(event.run_id, event.kind, event.step_run_id, "", None, None, index)


def placed(
    event: LiveEvent,
    *executions: Execution,
    over: dict[int, float] | None = None,
    broken: tuple[int, ...] = (),
    passed: tuple[int, ...] = (),
    same_flush: bool = False,
) -> tuple[int, Place]:
    """Where `event` is placed.

    `over`: position -> the time of its failure. `broken`: positions of executions since whose last chunk an
    attempt may have begun without an event. `passed`: positions of those of which nothing more can come.
    """
    times = {n: at(t) for n, t in (over or {}).items()}
    several = range(len(executions))
    times_over = [times.get(n) for n in several]
    unbroken = [n not in broken for n in several]
    over_by_order = [n in passed for n in several]
    return place(event, executions, times_over, unbroken, over_by_order, same_flush=same_flush)


THREE = ((0, 1.0), (1, 1.1), (2, 1.2))  # chunks 0 to 2, a tenth of a second apart


def test_the_first_chunk_of_a_step_begins_an_execution() -> None:
    assert placed(chunk(0, 1.0)) == (-1, Place.BEGINS)
    assert placed(chunk(7, 1.0)) == (-1, Place.BEGINS)


# -- again --


@pytest.mark.parametrize("emitted", [0, 3])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_same_index_and_time_is_known(emitted: int, index: int) -> None:
    assert placed(chunk(index, THREE[index][1]), execution(*THREE, emitted=emitted)) == (0, Place.KNOWN)


def test_the_same_chunk_is_known_in_the_execution_that_has_it_though_it_continues_another() -> None:
    first, second = execution(*THREE, emitted=3), execution((0, 2.0), (1, 2.1), number=2)
    assert placed(chunk(2, 1.2), first, second) == (0, Place.KNOWN)


def test_the_last_chunk_is_known_though_it_was_dropped() -> None:
    one = execution((13, 1.0), (14, 1.1))
    one.held.clear()
    assert placed(chunk(14, 1.1), one) == (0, Place.KNOWN)
    assert placed(chunk(13, 1.0), one) == (0, Place.ADDS), "and is dropped again"


def test_an_index_that_waits_with_another_time_is_not_the_same_chunk() -> None:
    assert placed(chunk(1, 5.0), execution(*THREE)) == (-1, Place.BEGINS)


# -- next --


def test_the_index_after_the_last_adds() -> None:
    assert placed(chunk(3, 1.3), execution(*THREE)) == (0, Place.ADDS)


def test_the_next_index_may_be_timed_a_little_earlier_but_not_more() -> None:
    first, second = execution(*THREE), execution((0, 3.0), (1, 3.1), (2, 3.2), number=2)
    assert placed(chunk(3, 3.2 - JUST), first, second) == (1, Place.ADDS)
    assert placed(chunk(3, 3.2 - MORE), first, second, same_flush=True) == (0, Place.ADDS)
    assert placed(chunk(3, 3.2 - MORE), first, second) == (1, Place.CONTESTED)


def test_the_next_index_after_the_failure_of_an_older_execution_is_not_its() -> None:
    first, second = execution(*THREE, emitted=3), execution((0, 2.0), number=2)
    assert placed(chunk(3, 1.4), first, second, over={0: 1.5}) == (0, Place.ADDS)
    assert placed(chunk(3, 1.5 + JUST), first, second, over={0: 1.5}) == (0, Place.ADDS)
    found, what = placed(chunk(3, 2.3), first, second, over={0: 1.5})
    assert (found, what) == (1, Place.ADDS), "chunks 1 and 2 of the newer one are missing"


def test_what_is_timed_after_a_failure_is_contested_by_the_difference_of_two_clocks() -> None:
    """The failed execution sent it, by a clock that is ahead; or another, whose first chunks are lost."""
    one = execution(*THREE)
    assert placed(chunk(3, 1.5 + JUST), one, over={0: 1.5}) == (0, Place.ADDS)
    assert placed(chunk(3, 1.5 + MORE), one, over={0: 1.5}) == (0, Place.CONTESTED)
    assert placed(chunk(3, 1.5 + CLOCK_SKEW * 0.9), one, over={0: 1.5}) == (0, Place.CONTESTED)
    assert placed(chunk(3, 1.5 + CLOCK_SKEW * 1.1), one, over={0: 1.5}) == (-1, Place.BEGINS)
    assert placed(chunk(2, 1.7), one, over={0: 1.5}) == (-1, Place.BEGINS), "an index that was there already"


def test_a_zombie_goes_on_beside_the_next_attempt() -> None:
    zombie = execution((23, 1.0), (24, 1.1), emitted=2)
    fresh = execution((0, 1.15), (1, 1.25), number=2)
    assert placed(chunk(25, 1.2), zombie, fresh) == (0, Place.ADDS)
    assert placed(chunk(2, 1.35), zombie, fresh) == (1, Place.ADDS)


def test_after_a_break_the_next_and_later_indices_begin_an_execution_of_their_own() -> None:
    one = execution(*THREE)
    assert placed(chunk(3, 1.3), one, broken=(0,)) == (-1, Place.BEGINS)
    assert placed(chunk(9, 1.9), one, broken=(0,)) == (-1, Place.BEGINS)
    assert placed(chunk(1, 1.1), one, broken=(0,)) == (0, Place.KNOWN)


# -- missing --


def test_a_hole_is_filled_where_the_time_fits() -> None:
    one = execution((0, 1.0), (3, 1.3))
    assert placed(chunk(2, 1.2), one) == (0, Place.ADDS)
    assert placed(chunk(2, 1.3 + MORE), one) == (-1, Place.BEGINS)


def test_an_index_before_the_first_that_was_received_fits_the_oldest_execution_at_any_time() -> None:
    assert placed(chunk(1, 0.5), execution((3, 1.3), (4, 1.4))) == (0, Place.ADDS)


def test_an_index_before_the_first_of_a_newer_execution_fits_only_after_its_beginning() -> None:
    first, second = execution(*THREE, emitted=3), execution((3, 2.3), (4, 2.4), number=2)
    assert placed(chunk(1, 2.3), first, second) == (1, Place.ADDS)
    assert placed(chunk(1, 1.05), first, second) != (1, Place.ADDS)


def test_an_index_that_waits_already_fills_no_hole() -> None:
    one = execution((0, 1.0), (2, 1.2), (4, 1.4))
    assert placed(chunk(2, 1.25), one)[1] is not Place.ADDS


# -- after chunks were emitted --


def test_a_chunk_whose_time_was_forgotten_is_known_where_it_fits() -> None:
    assert placed(chunk(1, 1.1), execution(*THREE, emitted=3, forgotten=True)) == (0, Place.KNOWN)


def test_an_index_that_begins_again_later_is_another_execution() -> None:
    assert placed(chunk(0, 2.0), execution(*THREE, emitted=3)) == (-1, Place.BEGINS)
    assert placed(chunk(1, 2.1), execution(*THREE, emitted=3)) == (-1, Place.BEGINS)


def test_the_first_index_again_with_another_time_is_another_execution() -> None:
    assert placed(chunk(0, 1.05), execution(*THREE, emitted=3, forgotten=True)) == (-1, Place.BEGINS)


def test_a_chunk_before_the_first_that_was_emitted_is_late() -> None:
    one = execution((5, 1.5), (6, 1.6), emitted=2)
    assert placed(chunk(4, 1.4), one) == (0, Place.LATE)
    assert placed(untimed(4), one) == (0, Place.LATE)


def test_a_chunk_before_the_first_of_a_newer_execution_is_not_its_late_one() -> None:
    first, second = execution(*THREE, emitted=3), execution((5, 2.5), (6, 2.6), emitted=2, number=2)
    assert placed(chunk(4, 2.4), first, second)[0] == 0
    assert placed(chunk(4, 2.5), first, second, over={0: 1.5}) == (1, Place.LATE)


def test_a_emitted_index_from_before_the_execution_is_late() -> None:
    one = execution((0, 1.0), (1, 1.1), (2, 1.2), emitted=3, forgotten=True)
    assert placed(chunk(2, 0.5), one) == (0, Place.LATE)


# -- later --


def test_a_later_index_adds_and_leaves_a_hole() -> None:
    assert placed(chunk(9, 2.0), execution(*THREE)) == (0, Place.ADDS)


def test_a_later_index_after_the_failure_begins_another_execution() -> None:
    assert placed(chunk(9, 2.6), execution(*THREE), over={0: 1.5}) == (-1, Place.BEGINS)
    assert placed(chunk(9, 2.0), execution(*THREE), over={0: 1.5}) == (0, Place.CONTESTED)


def test_a_later_index_of_an_earlier_time_is_contested() -> None:
    """An earlier execution may have sent it, or a worker whose clock was put back."""
    assert placed(chunk(9, 0.5), execution(*THREE)) == (0, Place.CONTESTED)
    first, second = execution(*THREE), execution((0, 2.0), number=2)
    assert placed(chunk(9, 0.5), first, second) == (1, Place.CONTESTED)


def test_the_index_after_the_last_fits_the_newest_execution_though_its_clock_was_put_back() -> None:
    assert placed(chunk(3, 1.1), execution(*THREE)) == (0, Place.ADDS)
    assert placed(chunk(3, 1.1), execution(*THREE), same_flush=True) == (0, Place.CONTESTED)
    assert placed(chunk(3, 0.5), execution(*THREE)) == (0, Place.CONTESTED), "sent before its first chunk"


def test_chunks_that_were_sent_more_than_a_minute_apart_did_not_come_in_one_flush() -> None:
    one = execution((0, 3600.0), (1, 3600.1))
    one.attempt = 1
    assert placed(chunk(2, 1.0), one, same_flush=True) == (0, Place.ADDS)
    assert placed(chunk(2, 3599.0), one, same_flush=True) == (0, Place.CONTESTED)


def test_a_clock_that_was_put_back_is_no_proof_where_an_older_execution_fits_too() -> None:
    first, second = execution(*THREE, emitted=3), execution((2, 2.0), (3, 2.1), number=2)
    assert placed(chunk(4, 2.05), first, second) == (1, Place.CONTESTED)
    assert placed(chunk(4, 2.05), first, second, same_flush=True) == (0, Place.ADDS), "sorted by index"
    assert placed(chunk(4, 1.5), first, second) == (0, Place.ADDS), "sent before the newer one began"


def test_what_was_sent_after_the_newest_failed_is_contested_where_an_older_one_may_still_run() -> None:
    """The older one's code may go on, or an attempt began that is not known yet."""
    first, second = execution((0, 0.3), emitted=1), execution((0, 6.6), emitted=1, number=2)
    assert placed(chunk(1, 6.9), first, second, over={1: 6.6}) == (0, Place.CONTESTED)
    assert placed(chunk(1, 6.9), first, second, over={0: 0.4, 1: 6.6}) != (0, Place.ADDS)


def test_an_index_that_an_older_execution_sent_at_another_time_is_not_its() -> None:
    """The worker's clock was put back by seconds before the last chunk of the newer one."""
    first, second = execution(*THREE, emitted=3), execution((0, 6.0), (1, 6.1), number=2)
    assert placed(chunk(2, 0.25), first, second, same_flush=True) == (1, Place.CONTESTED)


# -- contested --


def test_a_chunk_that_continues_an_older_execution_and_fits_a_hole_of_the_newer_is_contested() -> None:
    first, second = execution(*THREE, emitted=3), execution((0, 2.0), (4, 2.4), number=2)
    assert placed(chunk(3, 2.3), first, second) == (1, Place.CONTESTED)
    assert placed(chunk(3, 2.3), first, second, over={0: 1.5}) == (1, Place.ADDS)
    assert placed(chunk(3, 1.4), first, second) == (0, Place.ADDS), "sent before the newer one began"


def test_a_chunk_that_continues_the_newest_execution_is_of_that() -> None:
    first, second = execution(*THREE, emitted=3), execution(*((n, t + 1) for n, t in THREE), number=2)
    assert placed(chunk(3, 2.3), first, second) == (1, Place.ADDS)


def test_chunks_without_a_time_are_placed_by_index() -> None:
    one = execution(*THREE, emitted=3)
    assert placed(untimed(3), one) == (0, Place.ADDS)
    assert placed(untimed(7), one) == (0, Place.ADDS)
    assert placed(untimed(1), one) == (0, Place.KNOWN)


def test_the_rules_are_tried_in_this_order() -> None:
    names = [rule.__name__ for rule in placement.RULES]
    assert names == ["_next", "_missing", "_emitted", "_later"]


# -- what is kept --


def test_what_waits_is_bounded_by_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MOST_HELD", 3)
    executions = Executions()
    one = executions.begin(0.0)
    assert [executions.hold(one, chunk(n, 1.0, "x")) for n in range(5)] == [True] * 3 + [False] * 2
    assert executions.overflowed
    assert (executions.count, executions.bytes) == (3, 3)
    executions.take(one, 0)
    assert (executions.count, executions.bytes) == (2, 2)
    assert executions.drop(one) == 2
    assert (executions.count, executions.bytes) == (0, 0)
    monkeypatch.setattr(placement, "MOST_HELD_BYTES", 10)
    assert executions.hold(one, chunk(0, 1.0, "x" * 10))
    assert not executions.hold(one, chunk(1, 1.0, "x"))


def test_an_index_that_waits_is_not_held_twice() -> None:
    executions = Executions()
    one = executions.begin(0.0)
    assert executions.hold(one, chunk(0, 1.0, "first"))
    assert not executions.hold(one, chunk(0, 1.0, "other"))
    assert one.held[0].payload == "first"
    assert not executions.overflowed


def test_the_oldest_execution_is_forgotten_when_there_are_too_many() -> None:
    executions = Executions()
    first = executions.begin(0.0)
    executions.hold(first, chunk(0, 1.0, "x"))
    for _ in range(MOST_EXECUTIONS):
        executions.begin(0.0)
    assert len(executions.all) == MOST_EXECUTIONS
    assert first not in executions.all
    assert (executions.count, executions.bytes) == (0, 0)
    assert [one.number for one in executions.all] == list(range(2, MOST_EXECUTIONS + 2))


def test_an_execution_that_runs_again_goes_on_where_the_one_before_was_emitted() -> None:
    executions = Executions()
    before, again = executions.begin(0.0), executions.begin(1.0)
    before.attempt = 1
    for n in range(3):
        before.note(n, at(1), 0.0)
        before.emitted(n, at(1))
    executions.hold(before, chunk(4, 1.0))
    for n in range(4):
        executions.hold(again, chunk(n, 2.0))
    executions.continues(again, before)
    assert (again.attempt, again.next) == (1, 3)
    assert sorted(again.held) == [3, 4]
    assert before.held == {}
    assert executions.count == 2
