"""YAML to values that know their place, whatever the file is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.checks.checker import Form, check
from config.model.types import Resolved
from config.source.nodes import Path, Source
from config.source.reader import CONTROL, MOST_NODES, read
from config.source.syntax_errors import DEEPEST
from tests.support.cost import relative_cost

ROOT = FilePath(__file__).resolve().parents[4]


def source(text: str, env: Mapping[str, str] | None = None) -> Source:
    return read("f.yaml", text.encode(), {} if env is None else env)


def codes(text: str, env: Mapping[str, str] | None = None) -> list[tuple[str, int, int]]:
    return [(found.code, found.line, found.column) for found in source(text, env).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: yes", "yes"),
        ("a: on", "on"),
        ("a: Off", "Off"),
        ("a: true", True),
        ("a: False", False),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: 12", 12),
        ("a: -0", 0),
        ("a: 0o17", 15),
        ("a: 0x1F", 31),
        ("a: 1e3", 1000.0),
        ("a: .5", 0.5),
        ("a: 1:30", "1:30"),
        ("a: 2026-01-01", "2026-01-01"),
        ("a: 1_000", "1_000"),
        ("a: 0b11", "0b11"),
        ("a: '12'", "12"),
        ('a: "true"', "true"),
        ("a: |\n  1\n", "1\n"),
        ("a: 1.2.3", "1.2.3"),
        ("a: +", "+"),
        ("a: =", "="),
        ("a: !!str 12", "12"),
    ],
)
def test_plain_scalars_are_read_as_in_yaml_1_2(text: str, value: Any) -> None:
    found = source(text).data["a"]
    assert (type(found), found) == (type(value), value)


def test_the_characters_of_every_language_may_stand_in_a_text_and_in_a_comment() -> None:
    text = (
        "\xa0é\ud7ff\ue000\ufe30\uff1a\uff01\uff76\ufffd\U0001f600"  # \uff01 and such: East Asian full width
    )
    assert source(f"a: '{text}' # {text}\n").data == {"a": text}


def test_what_is_refused_as_a_control_character_is_what_libyaml_refuses() -> None:
    borders = (0x7E, 0xA1), (0xD7FF, 0xD800), (0xE000, 0xE001), (0xFEFE, 0xFF02), (0xFFEE, 0x10001)
    for number in (*range(0x20), *(number for border in borders for number in range(*border))):
        try:
            list(yaml.parse(f"'{chr(number)}'", yaml.CSafeLoader))
            taken = True
        except yaml.reader.ReaderError:
            taken = False
        assert (CONTROL.match(chr(number)) is None) == taken, hex(number)


def test_keys_are_text_as_they_are_written() -> None:
    assert source("on: 1\n1: 2\nnull: 3\nyes: 4\n").data == {"on": 1, "1": 2, "null": 3, "yes": 4}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\na: 2\n", ("duplicate-key", 2, 1)),
        ("a: {b: 1, b: 2}\n", ("duplicate-key", 1, 11)),
        ("a: 012\n", ("yaml-1.1", 1, 4)),
        ("a: .nan\n", ("number", 1, 4)),
        ("a: 1e999\n", ("number", 1, 4)),
        (f"a: {'9' * 5000}\n", ("number", 1, 4)),
        ("a: !!binary x\n", ("tag", 1, 4)),
        ("a: !not\n", ("tag", 1, 4)),
        ("a: *x\n", ("alias", 1, 4)),
        ("a: &x [*x]\n", ("alias", 1, 8)),
        ("<<: {a: 1}\n", ("merge-key", 1, 1)),
        ("{a: 1}: 2\n", ("key", 1, 1)),
        ("a: 1\n---\nb: 2\n", ("second-document", 2, 1)),
        ("%YAML 1.2\n---\na: 1\n", ("directive", 1, 1)),
        ("# x\n%TAG ! x\n---\na: 1\n", ("directive", 2, 1)),
        ("", ("empty", 1, 1)),
        ("# only a comment\n", ("empty", 1, 1)),
        ("a:\n\tb: 1\n", ("tab", 2, 1)),
        ("a:\n  - b\n \t - c\n", ("tab", 3, 2)),
        ("a: \x07\n", ("control-character", 1, 4)),
        ("a: '\n", ("syntax", 1, 4)),
        ("a: [1, 2\nb: 3\n", ("syntax", 2, 2)),
        ("a: ${X}\n", ("unset-variable", 1, 4)),
        ("a: x${X:?why}y\n", ("unset-variable", 1, 5)),
        ("a: ${lower-case}\n", ("leftover-variable", 1, 4)),
        ("a: '${X:-${Y}}'\n", ("leftover-variable", 1, 5)),
        ("a: ${file:relative}\n", ("variable-file", 1, 4)),
        ("a: ${file:/does/not/exist}\n", ("variable-file", 1, 4)),
        ("a: ${file:/dev/zero}\n", ("variable-file", 1, 4)),
        ("${X}: 1\n", ("leftover-variable", 1, 1)),
        (f"a: {'[' * 40}\n", ("too-deep", 1, 36)),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(text: str, place: tuple[str, int, int]) -> None:
    assert codes(text)[0] == place


def test_a_file_that_is_not_utf_8_is_refused_where_it_stops_being_it() -> None:
    found = read("f.yaml", b"a: 1\nb: \xff\n", {}).problems
    assert [(problem.code, problem.line, problem.column) for problem in found] == [("encoding", 2, 4)]


def test_a_byte_order_mark_moves_nothing() -> None:
    assert read("f.yaml", b"\xef\xbb\xbfa: 012\n", {}).problems[0].column == 4


def test_lines_end_as_the_file_ends_them() -> None:
    assert codes("a: 1\r\nb: 012\r\n") == [("yaml-1.1", 2, 4)]


# -- variables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: ${X}", "one"),
        ("a: ${X:-two}", "one"),
        ("a: ${Y:-two}", "two"),
        ("a: ${Y:-}", ""),
        ("a: ${EMPTY}", ""),
        ("a: ${EMPTY:-two}", "two"),
        ("a: pre-${X}-${Y:-two}", "pre-one-two"),
        ("a: '${X}: {b}'", "one: {b}"),
    ],
)
def test_variables_are_resolved_inside_scalars(text: str, value: str) -> None:
    found = source(text, {"X": "one", "EMPTY": ""}).data["a"]
    assert found == value
    assert isinstance(found, Resolved)


def test_a_variable_can_add_no_line_and_no_key() -> None:
    assert source("a: ${X}", {"X": "1\nb: 2"}).data == {"a": "1\nb: 2"}


def test_a_variable_that_holds_another_is_refused() -> None:
    assert codes("a: ${X}", {"X": "${Y}"}) == [("leftover-variable", 1, 4)]


def test_a_file_is_read_without_its_last_line_break(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert source(f"a: ${{file:{tmp_path}/secret}}").data == {"a": "s3cret"}


def test_a_team_file_has_no_variables() -> None:
    found = read("f.yaml", b"a: 'x ${X}'\n", None).problems
    assert [(problem.code, problem.line, problem.column) for problem in found] == [
        ("variable-in-team-file", 1, 7)
    ]


def test_the_message_of_an_unset_variable_is_said_and_no_value_ever() -> None:
    [found] = source("a: ${X:?ask the platform team}", {"X": ""}).problems
    assert found.message == "the variable X is empty: ask the platform team"


# -- places inside scalars ------------------------------------------------------------------------


def place_of(text: str, path: Path, wanted: str, env: Mapping[str, str] | None = None) -> str:
    """What stands in the file where `wanted` stands in the scalar."""
    found = source(text, env)
    node = found.node(path)
    assert node is not None
    index = found.inside(path, str(node.value).index(wanted))
    return found.text[index : index + 3]


@pytest.mark.parametrize(
    "text",
    [
        "a: payload.XYZ\n",
        "a: 'it''s XYZ'\n",
        'a: "\\u0041\\"\\x41 XYZ"\n',
        'a: "one \\\n   two XYZ"\n',
        "a: 'one\n\n\n   two XYZ'\n",
        "a: plain\n  goes on\n\n  XYZ\n",
        "a: |\n  one\n  XYZ\n",
        "a: |2\n    one\n  XYZ\n",
        "a: >-\n  one\n  two\n\n  three\n    more XYZ\n  end\n",
        "a: >+ # comment\n\n  one\n  XYZ\n\n",
        "a: &anchor XYZ\n",
        "a: !!str 'XYZ'\n",
        "a: 'ü€😀 XYZ'\r\n",
        "a: >\r\n  one\r\n  XYZ\r\n",
        "b: {a: 1}\na: [x, XYZ]\n",
    ],
)
def test_a_place_inside_a_scalar_is_the_place_in_the_file(text: str) -> None:
    path: Path = ("a", 1) if "[" in text else ("a",)
    assert place_of(text, path, "XYZ") == "XYZ"


def test_a_place_behind_a_variable_is_the_place_in_the_file() -> None:
    assert place_of("a: '${V} and XYZ'\n", ("a",), "XYZ", {"V": "something longer"}) == "XYZ"
    assert place_of("a: '${V} and XYZ'\n", ("a",), "some", {"V": "something longer"}) == "${V"


WORDS = st.text("ab '\"\\\n:#ü-|>!\t", max_size=30)


@given(WORDS, st.sampled_from(["'", '"', "|", ">", None]), st.integers(8, 40), st.booleans())
@example(" :::::: :", ">", 8, False)  # what PyYAML writes here, it reads as another text
@settings(max_examples=300)
def test_every_character_of_every_style_is_found_again(
    text: str, style: str, width: int, nested: bool
) -> None:
    value: Any = [{"k": text}] if nested else text
    path: Path = ("a", 0, "k") if nested else ("a",)
    written = yaml.safe_dump({"a": value}, default_style=style, width=width, allow_unicode=True)
    found = source(written)
    node = found.node(path)
    assert node is not None, found.problems
    if not isinstance(node.value, str):
        return
    loaded = yaml.safe_load(written)["a"]
    assert node.value == (loaded[0]["k"] if nested else loaded)
    for offset, character in enumerate(node.value):
        index = found.inside(path, offset)
        if character.isalpha() and written[index] != "\\":
            assert written[index] == character


# -- nothing in a file costs more than its size -------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

MONSTERS = {
    "ten megabytes": "a: 1\n" * 2_000_000,
    "deep flow": "[" * 1_000_000,
    "deep mapping": "{a: " * 200_000,
    "deep dashes": "- " * 400_000,
    "deep questions": "? " * 400_000,
    "laughs": LAUGHS,
    "many values": "- a\n" * 250_000,
    "many keys": "".join(f"k{n}: 1\n" for n in range(80_000)),
    "one key again and again": "a: 1\n" * 200_000,
    "many anchors": "".join(f"- &a{n} x\n" for n in range(80_000)),
    "long plain": "a: " + "x" * 1_000_000,
    "long quoted": "a: '" + "''" * 500_000 + "'",
    "long escapes": 'a: "' + "\\u0041" * 170_000 + '"',
    "long block": "a: |\n" + " x\n" * 300_000,
    "long folded": "a: >\n" + "  x\n\n" * 200_000,
    "many lines": "\n" * 1_000_000,
    "many comments": "#\n" * 500_000,
    "directives": "".join(f"%TAG !a{n}! !\n" for n in range(60_000)) + "---\na: 1\n",
    "many documents": "--- a\n" * 150_000,
    "variables": "a: '" + "${A}" * 250_000 + "'",
    "leftovers": "".join("- ${\n" for _ in range(200_000)),
    "braces": "a: '" + "${A:-" * 200_000 + "'",
    "nothing but tabs": "\t" * 1_000_000,
    "nothing but bytes": "\x00" * 1_000_000,
    "colons": ":" * 1_000_000,
    "quotes": "'" * 999_999,
    "stars": "*" * 1_000_000,
    "dashed words": "a: '" + "a-" * 500_000,
    "tokens": "a: '" + "token: " * 150_000,
    "what looks like a token": "a: 'eyJ" + "abcdefgh.eyJ-" * 80_000,
    "quotes and blanks": "a: [" + "token'   " * 110_000,
    "blanks": "token:" + " " * 1_000_000 + "'",
    "expressions": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: step_stream, when: 'f{n}(a)|f(a)|f(a)|f(a)'}}\n" for n in range(15_000)),
    "long expressions": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: step_stream, when: 'f{n}(a){'|f(a)' * 800}'}}\n" for n in range(240)),
    "block expressions": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - events: a\n        when: |3\n           f{n}(=\n" for n in range(9_000)),
    "rules": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: step_stream, steps: s{n}}}\n" for n in range(9_000)),
    "globs": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: '{'*a' * 300}', steps: '{'*a' * 300}{n}'}}\n" for n in range(800)),
    "step globs": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: '*', steps: '{n}*'}}\n" for n in range(8_000)),
    "streams": "version: 1\nstreams:\n"
    + "".join(f"  s{n}: {{path: /a/{{x}}, rules: []}}\n" for n in range(8_000)),
    "paths": "version: 1\nstreams:\n"
    + "".join(f"  s{n}: {{path: '/a{n}/{{workflowRunId}}', rules: []}}\n" for n in range(6_000)),
    "tests": "version: 1\nstreams: {}\ntests:\n"
    + "".join(f"  - {{stream: s{n}, x: 1}}\n" for n in range(12_000)),
    "unknown keys": "version: 1\n" + "".join(f"version{n}: 1\n" for n in range(24_000)),
    "wrong events": "version: 1\nstreams:\n  a:\n    rules:\n"
    + "".join(f"      - {{events: step_complete{n}}}\n" for n in range(15_000)),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_no_file_takes_more_than_forty_times_the_reference(name: str) -> None:
    content = MONSTERS[name].encode()
    found = []
    cost = relative_cost(lambda: found.append(check("f.yaml", content, None, {"A": "x" * 1000})))
    (checked,) = found
    assert checked.problems
    assert len(checked.problems) <= 201
    assert cost < 40, "two seconds on the machine of docs/performance.md"


@pytest.mark.parametrize("name", ["many lines", "many values", "wrong events", "ten megabytes"])
def test_no_file_takes_two_hundred_megabytes(name: str) -> None:
    program = (
        "import re, sys\nfrom config.checks.checker import check\n"
        "from tests.unit.config.source.test_reader import MONSTERS\n"
        "check('f.yaml', MONSTERS[sys.argv[1]].encode(), None, {})\n"
        # not ru_maxrss: a child inherits its parent's peak, and this process has run thousands of tests
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout) < 200 << 10  # Linux counts in KiB; pytest and the large inputs are included


def test_as_much_as_is_allowed_is_read() -> None:
    assert source("- a\n" * (MOST_NODES - 1)).problems == []
    assert source("[" * DEEPEST + "]" * DEEPEST).problems == []


# -- whatever is written, something is said and nothing breaks ------------------------------------------

TOKENS = st.sampled_from(
    [
        "version: 1",
        "streams:",
        "  ",
        "\n",
        "- ",
        "rules:",
        "events: ",
        "step_stream",
        "when: ",
        "${",
        "}",
        "{",
        "[",
        "]",
        "'",
        '"',
        "*",
        "&a",
        "!x",
        "|",
        ">",
        ": ",
        "\t",
        "#",
        "hatchet:",
        "token: ",
        "tests:",
        "given: ",
        "expect: ",
        "data: ",
        "payload",
        "=",
        "==",
        "`",
        "$",
        "null",
        "012",
        "\r\n",
        "\u2028",
        "é",
        "%",
        "@",
        "? ",
        "---",
        "...",
        "<<",
    ]
)


@given(st.lists(TOKENS, max_size=60).map("".join), st.sampled_from([*Form, None]))
@example("a: !!", None)
@example("? ? ?", None)
@settings(max_examples=400)
def test_any_text_is_checked_without_a_crash(text: str, form: Form | None) -> None:
    for found in check("f.yaml", text.encode(), form, {}).problems:
        assert found.line >= 1
        assert found.column >= 1
        assert found.message


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_checked_without_a_crash(content: bytes) -> None:
    check("f.yaml", content, None, {})
