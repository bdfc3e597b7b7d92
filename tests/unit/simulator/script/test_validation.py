"""A script that is wrong is sent so: file, line, column, what is wrong and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.problems import ConfigError
from proxy.simulator.script.default import default
from proxy.simulator.script.loader import check_script, cut, load_script, parse_script

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))

WRONG = {
    "an unknown parent": (
        "a: {steps: {one: {}, two: {parents: on}}}",
        "4:39: error: `two` has a parent `on` that is no step (did you mean `one`?)",
    ),
    "a cycle": (
        "a: {steps: {one: {parents: two}, two: {parents: one}}}",
        "4:30: error: the steps wait for each other: one → two → one (take one parent away)",
    ),
    "a step that is its own parent": (
        "a: {steps: {one: {parents: one}, two: {}}}",
        "4:30: error: the steps wait for each other: one → one (take one parent away)",
    ),
    "a bad duration": (
        "a: {steps: {one: {takes: 5}}}",
        "4:28: error: `takes` must be a duration, but this is the number `5` (write the unit too: `5s`; "
        "a whole number and ms, s, m or h, like 500ms, 15s, 5m, 1h)",
    ),
    "a bad size": (
        "a: {steps: {one: {output_size: 20kb}}}",
        "4:34: error: `output_size` must be a size, but this is the text `20kb` (write `20KiB`; "
        "a whole number and B, KiB, MiB or GiB, like 512KiB, 1MiB)",
    ),
    "an unknown key": (
        "a: {steps: {one: {outputs: 1}}}",
        "4:21: error: unknown key `outputs` in `one` (did you mean `output`?)",
    ),
    "two outputs": (
        "a: {steps: {one: {output: 1, output_size: 1KiB}}}",
        "4:32: error: `output_size` and `output` exclude each other (keep one)",
    ),
    "an unknown child": (
        "a: {steps: {one: {children: [{workflow: b}]}}}",
        "4:43: error: there is no workflow `b` (known here: a)",
    ),
    "workflows without end": (
        "a: {steps: {one: {children: [{workflow: a}]}}}",
        "4:3: error: the workflows run each other without end: a → a (take one of the children away)",
    ),
    "chunks that say nothing": (
        "a: {steps: {one: {chunks: {every: 1s}}}}",
        "4:21: error: `chunks` does not define what is streamed (write one of texts, text, of, count)",
    ),
    "bytes that are none": (
        "a: {steps: {one: {chunks: {texts: [{hex: xyz}]}}}}",
        '4:44: error: `hex` must be pairs of hexadecimal digits, but this is the text `xyz` (like "fffe00")',
    ),
    "an expression that is none": (
        'a: {steps: {one: {output_of: "a ="}}}',
        "4:35: error: ",
    ),
    "no steps": ("a: {steps: {}}", "4:7: error: the workflow has no steps (write one)"),
    "a parent on failure": (
        "a: {steps: {one: {}}, on_failure: {parents: one}}",
        "4:38: error: the step on failure has no parents (Hatchet runs it after all others)",
    ),
    "no file of ours": ("a: [", "5:1: error: "),
}


def script(workflows: str) -> bytes:
    return f"version: 1\nquirks: {{late-backoff: false}}\nworkflows:\n  {workflows}\n".encode()


@pytest.mark.parametrize("mistake", WRONG)
def test_every_mistake_is_reported_with_its_place(mistake: str) -> None:
    workflows, message = WRONG[mistake]
    written, problems = check_script("x.yaml", script(workflows))
    assert written is None
    assert str(problems[0]).startswith(f"x.yaml:{message}")
    if not message.endswith(": error: "):
        assert [str(problem) for problem in problems] == [f"x.yaml:{message}"]


def test_an_unknown_quirk_is_reported_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean `five-second-hold`"):
        parse_script("x", b"version: 1\nquirks: {five-seconds-hold: false}\nworkflows: {a: {steps: {a: {}}}}")


def test_a_backoff_without_retries_is_a_warning_only() -> None:
    written, problems = check_script("x", script("a: {steps: {one: {backoff: {factor: 2}}}}"))
    assert written is not None
    assert [problem.severity for problem in problems] == ["warning"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_without_a_complaint(path: Path) -> None:
    written, problems = check_script(str(path), path.read_bytes())
    assert written is not None
    assert problems == ()


def test_a_block_that_cannot_be_read_hides_nothing_of_the_others() -> None:
    text = """a:
    steps:
      one: {takes: soon}
      two: {parents: [one, non], output_of: "payload.", children: [{workflow: c}]}
  b:
    steps:
      only: {skip: true, skip_if: "lenght(input.a) == `0`"}
"""
    written, problems = check_script("x.yaml", script(text))
    assert written is None
    assert [(problem.line - problems[0].line, problem.code) for problem in problems] == [
        (0, "duration"),
        (1, "unknown-parent"),
        (1, "syntax"),
        (1, "unknown-workflow"),
        (4, "contradiction"),
        (4, "unknown-function"),
    ]


def test_the_tutorials_example_has_the_steps_of_the_engine_without_a_script() -> None:
    (example,) = [path for path in EXAMPLES if path.stem == "chat"]
    mine = load_script(example).workflows["chat"]
    theirs = default().workflows["chat"]
    assert [(one.name, one.parents) for one in mine.steps] == [
        (one.name, one.parents) for one in theirs.steps
    ]


def test_a_path_that_cannot_be_read_is_unreadable() -> None:
    with pytest.raises(ConfigError) as raised:
        load_script(Path("nowhere.yaml"))
    assert raised.value.unreadable


@pytest.mark.parametrize(
    ("by", "pieces"),
    [
        ("word", [b"a", b" b\n", b"", b" c"]),
        ("letter", [b"a", b" ", b"b", b"\n"]),
        ("line", [b"a b\n", b"c"]),
    ],
)
def test_a_cut_text_is_whole_when_it_is_laid_together(by: str, pieces: list[bytes]) -> None:
    text = {"word": "a b\n c", "letter": "a b\n", "line": "a b\nc"}[by]
    assert b"".join(cut(text, by)) == text.encode()
    assert cut(text, by)[0] == pieces[0]
