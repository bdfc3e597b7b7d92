"""Cursors of a shared log: the same on every replica, and never misread."""

from __future__ import annotations

from typing import Final

from proxy.log.cursor import read_cursor
from proxy.log.fences import Fence, Fences, new_generation
from proxy.log.shared_frames import SharedFrames

RUN: Final = "11111111-1111-4111-8111-111111111111"
FIRST: Final = 1_790_000_000_000
GENERATION: Final = new_generation(FIRST, "abc")


def fences(*more: Fence, generation: str = GENERATION) -> Fences:
    return Fences(generation, [Fence(FIRST, 1, "a"), *more])


def ids(of: Fences | None = None, *, rules: str = "r", variant: str = "") -> SharedFrames:
    return SharedFrames(
        of or fences(), team="t", stream="s", run_id=RUN, value="", rules=rules, variant=variant
    )


def channel(of: SharedFrames, frames: list[tuple[int, int]]) -> list[bytes]:
    """The cursors of a channel that makes so many frames of the item at each position."""
    cursors: list[bytes] = []
    for position, count in frames:
        of.begin(position, len(cursors))
        for _ in range(count):
            cursors.append(of.at(len(cursors) + 1))
    return cursors


def place(of: SharedFrames, cursor: bytes) -> int | None:
    parsed = read_cursor(cursor.decode())
    assert parsed is not None
    found = of.locate(parsed)
    return None if found is None else found.place


def test_a_replica_that_began_later_has_the_same_cursors() -> None:
    early, late = ids(), ids()
    all_of_them = channel(early, [(1, 1), (2, 0), (3, 2), (4, 1)])
    assert channel(late, [(3, 2), (4, 1)]) == all_of_them[1:]
    assert [place(late, cursor) for cursor in all_of_them] == [0, 1, 2, 3]
    assert [place(early, cursor) for cursor in all_of_them] == [1, 2, 3, 4]


def test_frames_without_a_cursor_of_their_own_have_a_place_between_the_others() -> None:
    one = ids()
    one.begin(1, 0)
    first = one.at(1)
    one.begin(2, 1)
    assert one.at(1) == first, "a gap repeats the cursor before it"
    one.begin(3, 2)
    third = one.at(3)
    assert (place(one, first), place(one, third)) == (1, 3)


def test_a_cursor_is_known_after_another_replica_took_the_lead() -> None:
    before = channel(ids(), [(1, 1), (2, 1)])
    after = ids(fences(Fence(FIRST + 1, 3, "b")))
    now = channel(after, [(1, 1), (2, 1), (3, 1)])
    assert now[:2] == before
    assert [place(after, cursor) for cursor in before] == [1, 2]


def test_a_position_that_was_served_with_another_item_has_another_cursor() -> None:
    """Replica a went on without the log and served position 3, while b took the lead there."""
    apart = channel(ids(), [(1, 1), (2, 1), (3, 1)])
    taken = ids(fences(Fence(FIRST + 1, 3, "b")))
    channel(taken, [(1, 1), (2, 1), (3, 1)])
    assert [place(taken, cursor) for cursor in apart] == [1, 2, None]


def test_a_cursor_ahead_of_this_replica_is_unknown_until_the_log_is_read() -> None:
    ahead, behind = ids(), ids()
    cursors = channel(ahead, [(1, 1), (2, 1)])
    channel(behind, [(1, 1)])
    assert place(behind, cursors[1]) is None
    behind.begin(2, 1)
    behind.at(2)
    assert place(behind, cursors[1]) == 2


def test_cursors_of_other_rules_another_generation_or_a_part_of_it_are_unknown() -> None:
    one = ids()
    channel(one, [(1, 1)])
    for other in (
        ids(rules="others"),
        ids(variant="from 7"),
        ids(fences(generation=new_generation(FIRST, "xyz"))),
    ):
        assert place(one, channel(other, [(1, 1)])[0]) is None


def test_what_two_replicas_told_under_one_number_has_different_cursors() -> None:
    """Both went on without Redis, and neither knew of the other."""
    one, other = (ids(fences(Fence(FIRST + 1, 2, replica))) for replica in ("b", "c"))
    cursors, others = (channel(each, [(1, 1), (2, 1)]) for each in (one, other))
    assert cursors[0] == others[0]
    assert cursors[1] != others[1]
    assert place(other, cursors[1]) is None


def test_a_cursor_within_a_piece_leads_to_the_same_piece_elsewhere() -> None:
    early, late = ids(), ids()
    channel(early, [(1, 1), (2, 1), (3, 1)])
    channel(late, [(2, 1), (3, 1)])
    text = early.within(3, 2, 2).decode()
    parsed = read_cursor(text)
    assert parsed is not None
    found = late.locate(parsed)
    assert found is not None
    assert (found.place, found.received, found.since) == (2, 2, 1)


def test_fences_name_the_replica_that_wrote_a_position() -> None:
    one = fences(Fence(FIRST + 1, 5, "b"), Fence(FIRST + 2, 9, "c"))
    replicas_found = [one.at(position) for position in (0, 1, 4, 5, 8, 9, 99)]
    names = [f"{FIRST}.a", f"{FIRST + 1}.b", f"{FIRST + 2}.c"]
    assert replicas_found == [names[0], names[0], names[0], names[1], names[1], names[2], names[2]]
    assert [fence.replica for fence in Fences.of(GENERATION, one.plain)] == ["a", "b", "c"]
    one.add(Fence(FIRST + 3, 6, "d"))
    assert [fence.replica for fence in one] == ["a", "b", "d"], "what c served is void"
