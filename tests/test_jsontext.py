"""JSON in and out: equal values come back as they went, on one line, never NaN."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.text(alphabet="\ud800\udfff\n\r\u2028a", max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    text = jsontext.encode(value).decode()
    assert "\n" not in text and "\r" not in text
    # two halves of a surrogate pair that stood side by side are one character once they were written
    assert jsontext.decode(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "-9223372036854775809", "[18446744073709551616]"]
)
def test_integers_beyond_64_bits_stay_what_they_are(text: str) -> None:
    assert jsontext.encode(jsontext.decode(text)).decode() == text


@given(st.integers(-(2**70), 2**70), st.text(alphabet="[, a]", max_size=30))
def test_whatever_stands_around_them(number: int, around: str) -> None:
    text = json.dumps([around, number, around])
    assert jsontext.decode(text) == [around, number, around]


@pytest.mark.parametrize("text", ["NaN", "[1,Infinity]", "-Infinity", "1e", "", "{", "'a'", "\ud800"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(jsontext.NotJson, match="is not JSON"):
        jsontext.decode(text)


def test_infinity_has_no_json_and_becomes_null() -> None:
    assert jsontext.encode([float("inf"), 10**30, float("nan")]) == b"[null,1" + b"0" * 30 + b",null]"
    assert jsontext.encode(float("nan")) == b"null"
    assert jsontext.decode("1e999") == float("inf")


def test_what_is_nested_without_end_is_refused_and_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(jsontext.NotJson, match="nested too deeply"):
        jsontext.encode(value)
    with pytest.raises(jsontext.NotJson):
        jsontext.decode("[" * 100_000)
