"""Instants: RFC 3339 in, nanoseconds inside, ISO 8601 out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.instant import SECOND, instant, text_of

NEW_YEAR = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-01-01T00:00:00.1Z", NEW_YEAR + SECOND // 10),
        ("2026-01-01T00:00:00.000000001Z", NEW_YEAR + 1),
        ("2026-01-01T00:00:00.1234567891Z", NEW_YEAR + 123_456_789),
        ("2026-01-01T01:30:00+01:30", NEW_YEAR),
        ("2025-12-31T19:00:00.5-05:00", NEW_YEAR + SECOND // 2),
        ("2026-01-01T00:00:00+0000", NEW_YEAR),
        ("2026-01-01 00:00:00", NEW_YEAR),
        ("2026-01-01t00:00:00z", NEW_YEAR),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.5Z", -SECOND // 2),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, at: int) -> None:
    assert instant(text) == at


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00Z\n",
        "2026-01-01",
        "٢٠٢٦-01-01T00:00:00Z",
        "1767225600",
    ],
)
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert instant(text) is None


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, None),
        (NEW_YEAR, "2026-01-01T00:00:00Z"),
        (NEW_YEAR + SECOND // 8, "2026-01-01T00:00:00.125Z"),
        (NEW_YEAR + 1, "2026-01-01T00:00:00.000000001Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800 * SECOND, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_text_has_as_many_digits_as_it_needs(at: int | None, text: str | None) -> None:
    assert text_of(at) == text


@pytest.mark.parametrize("at", [2**63, -(2**63), 10**30])
def test_a_time_that_no_calendar_holds_has_a_text_all_the_same(at: int) -> None:
    assert isinstance(text_of(at), str)


@given(st.integers(-62_135_596_800 * SECOND, 253_402_300_799 * SECOND))
def test_a_text_is_read_as_what_it_was_written_from(at: int) -> None:
    assert instant(text_of(at)) == at


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = instant(text)
    assert found is None or isinstance(found, int)
