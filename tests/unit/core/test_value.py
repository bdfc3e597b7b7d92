"""Values are compared and hashed by what they hold, and cannot be given what they do not have."""

from __future__ import annotations

import pytest

from proxy.core.events import Event
from proxy.core.observations import Kind, LiveEvent
from proxy.core.value import value


@value
class Point:
    """A place."""

    x: int
    y: int = 0


def test_equal_values_are_one_in_a_set() -> None:
    assert Point(1) == Point(1, 0)
    assert len({Point(1), Point(1, 0), Point(1, 2)}) == 2
    assert repr(Point(1)) == "Point(x=1, y=0)"


def test_a_value_has_no_room_for_more() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_what_happens_once_per_event_is_a_value() -> None:
    live = LiveEvent("r", Kind.STREAM, "s", "text", index=1)
    assert live == LiveEvent("r", Kind.STREAM, "s", "text", None, None, 1)
    assert hash(live) == hash(LiveEvent("r", Kind.STREAM, "s", "text", index=1))
    assert Event("step_stream", "r") == Event("step_stream", "r", metadata={})
