"""JSON in and out: equal values come back as they went, on one line, never NaN."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import json_codec
from tests.support.cost import relative_cost

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.text(alphabet="\ud800\udfff\n\r\u2028a", max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    text = json_codec.encode(value).decode()
    assert "\n" not in text and "\r" not in text
    # two halves of a surrogate pair that stood side by side are one character once they were written
    assert json_codec.decode(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "-9223372036854775809", "[18446744073709551616]"]
)
def test_integers_beyond_64_bits_stay_what_they_are(text: str) -> None:
    assert json_codec.encode(json_codec.decode(text)).decode() == text


@given(st.integers(-(2**70), 2**70), st.text(alphabet="[, a]", max_size=30))
def test_whatever_stands_around_them(number: int, around: str) -> None:
    text = json.dumps([around, number, around])
    assert json_codec.decode(text) == [around, number, around]


@pytest.mark.parametrize("text", ["NaN", "[1,Infinity]", "-Infinity", "1e", "", "{", "'a'", "\ud800"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(json_codec.NotJson, match="is not JSON"):
        json_codec.decode(text)


def test_infinity_has_no_json_and_becomes_null() -> None:
    assert json_codec.encode([float("inf"), 10**30, float("nan")]) == b"[null,1" + b"0" * 30 + b",null]"
    assert json_codec.encode(float("nan")) == b"null"
    assert json_codec.decode("1e999") == float("inf")


def test_what_is_nested_without_end_is_refused_and_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(json_codec.NotJson, match="nested too deeply"):
        json_codec.encode(value)
    with pytest.raises(json_codec.NotJson):
        json_codec.decode("[" * 100_000)


# -- how much memory a value takes


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [10, 500, 1_100, 5_000])
def test_a_value_is_weighed_however_deep_it_is_nested(levels: int) -> None:
    assert json_codec.memory_of(nested(levels)) >= levels * json_codec.CONTAINER


def test_a_wide_value_that_cannot_be_written_at_once_is_estimated_from_its_first_values() -> None:
    wide = [nested(300), *({"n": number} for number in range(50_000))]
    alike = [{"n": number} for number in range(50_000)]
    assert json_codec.memory_of(alike) / 3 < json_codec.memory_of(wide) < json_codec.memory_of(alike) * 3


@given(VALUES)
def test_whatever_is_decoded_has_a_weight(value: Any) -> None:
    assert json_codec.memory_of(value) > 0


def test_weighing_a_large_output_costs_no_more_than_decoding_it_does() -> None:
    text = json.dumps([{"id": number, "tags": ["a", "b"], "score": 0.5} for number in range(100_000)])
    assert len(text) > 4_000_000
    value = json_codec.decode(text)
    weighing = relative_cost(lambda: json_codec.memory_of(value))
    assert weighing < relative_cost(lambda: json.loads(text))
