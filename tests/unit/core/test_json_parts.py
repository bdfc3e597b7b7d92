"""Parts of a JSON text: what lies at the asked paths is what the whole text has there, and no text is judged
otherwise."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import json_codec
from proxy.core.json_parts import Key, decoder

NAMES: Final = st.sampled_from(["a", "b", "", "é", 'a"b', "😀"])
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.text(alphabet="\ud800\udfff\n\u2028a", max_size=3)
)
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
PATHS: Final = st.lists(st.lists(NAMES | st.integers(-2, 2), max_size=3).map(tuple), max_size=4)


def at(value: Any, path: tuple[Key, ...]) -> Any:
    """What a rule's expression finds at `path`."""
    for key in path:
        if isinstance(key, str):
            value = value.get(key) if isinstance(value, dict) else None
        elif isinstance(value, list) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def outcome(decode: Any, text: str, paths: list[tuple[Key, ...]]) -> str:
    try:
        value = decode(text)
    except json_codec.NotJson as error:
        return str(error)
    return json.dumps([at(value, path) for path in paths])


@given(VALUES, PATHS, st.booleans())
def test_what_lies_at_the_paths_is_what_the_whole_text_has_there(
    value: Any, paths: list[tuple[Key, ...]], ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert outcome(decoder(paths), text, paths) == outcome(json_codec.decode, text, paths)


@given(
    VALUES, PATHS, st.integers(0, 60), st.sampled_from(['"', "}", "]", ",", ":", "0", "\\", "x", "\x01", ""])
)
def test_a_broken_text_is_refused_as_it_is_without_paths(
    value: Any, paths: list[tuple[Key, ...]], place: int, other: str
) -> None:
    text = json.dumps(value)
    text = text[:place] + other + text[place + 1 :]
    assert outcome(decoder(paths), text, paths) == outcome(json_codec.decode, text, paths)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}, "a": {}}',
        '{"a": 1, "a": {"b": 2}}',
        '{"\\u0061": {"b": 12345678901234567890123}}',
        '{"x": 1e400, "a": {"b": 1e400}}',
        '{"x": "\\ud800", "a": {"b": "\\ud800"}}',
        '{"x": 01}',
        '{"x": [1,]}',
        '{"a": {"b": 1}} x',
        "\ufeff{}",
        "",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_the_odd_ones(text: str) -> None:
    paths: list[tuple[Key, ...]] = [("a", "b")]
    assert outcome(decoder(paths), text, paths) == outcome(json_codec.decode, text, paths)


def test_what_nobody_reads_is_not_made() -> None:
    decode = decoder([("order", "id"), ("items", 0, "name")])
    text = '{"order": {"id": 7, "total": 9}, "items": [{"name": "one", "price": 2}], "note": "long"}'
    assert decode(text) == {"order": {"id": 7}, "items": [{"name": "one"}]}


def test_without_a_path_and_with_an_empty_one_all_of_it_is_made() -> None:
    assert decoder([])('{"a": 1}') == decoder([(), ("b",)])('{"a": 1}') == {"a": 1}
