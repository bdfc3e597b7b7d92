"""Where the served configuration and the newest one differ, setting by setting."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.console.config_view import differences


@pytest.mark.parametrize(
    ("live", "newest", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, [("a.b", 1, None), ("a.c", None, 1)]),
        ({"r": [1, 2]}, {"r": [1, 3]}, [("r[1]", 2, 3)]),
        ({"r": [1]}, {"r": [1, 3]}, [("r", [1], [1, 3])]),
        ({"r": [{"x": 1}]}, {"r": [{"x": None}]}, [("r[0].x", 1, None)]),
    ],
)
def test_each_setting_that_differs_is_named(live: Any, newest: Any, expected: list[Any]) -> None:
    assert list(differences(live, newest)) == expected
