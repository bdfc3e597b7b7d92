"""What `check` says where `${file:…}` names no file that can be read, and where its hint leads to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from config.checks.checker import Form, check
from config.problems import Problem
from tests.support.secrets import HATCHET_TOKEN

Place = Callable[[Path], str]


def problems(path: str, *, secrets: bool = True) -> tuple[Problem, ...]:
    """What is wrong with a file whose token is in the file `path`."""
    token = f'version: 1\nhatchet: {{token: "${{file:{path}}}"}}\n'
    text = token + "streams: {s: {rules: [{events: step_started}]}}\n"
    return check("streams.yaml", text.encode(), Form.SINGLE, {}, secrets=secrets).problems


def problem(path: str) -> Problem:
    """The one error."""
    (found,) = problems(path)
    return found


def folder(at: Path) -> str:
    (at / "secrets").mkdir()
    (at / "secrets" / "token").write_text(HATCHET_TOKEN + "\n")
    return str(at / "secrets")


def empty_folder(at: Path) -> str:
    (at / "secrets").mkdir()
    return str(at / "secrets")


def pipe(at: Path) -> str:
    os.mkfifo(at / "pipe")
    return str(at / "pipe")


def dead_link(at: Path) -> str:
    (at / "link").symlink_to(at / "nothing")
    return str(at / "link")


def link_to_a_folder(at: Path) -> str:
    (at / "link").symlink_to(folder(at))
    return str(at / "link")


def below_a_file(at: Path) -> str:
    (at / "token").write_text("t")
    return str(at / "token" / "value")


def nearly(at: Path) -> str:
    (at / "hatchet-token").write_text(HATCHET_TOKEN)
    return str(at / "hatchet_token")


def not_mounted(at: Path) -> str:
    return str(at / "secrets" / "token")


def binary(at: Path) -> str:
    (at / "token").write_bytes(b"\xff\xfe")
    return str(at / "token")


def large(at: Path) -> str:
    (at / "token").write_bytes(b"x" * 70_000)
    return str(at / "token")


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        (folder, "is a directory and no file", "name a file in it, like ${file:"),
        (link_to_a_folder, "is a directory and no file", "name a file in it, like ${file:"),
        (empty_folder, "is a directory and no file", "/NAME}"),
        (pipe, "is a pipe or a device and no file", "name a regular file"),
        (dead_link, "is a link to a file that does not exist", "is what it points to mounted?"),
        (below_a_file, "does not exist", "is a file and no directory"),
        (nearly, "does not exist", "did you mean "),
        (not_mounted, "does not exist", "is it mounted?"),
        (binary, "is not UTF-8 text", "is it the right one?"),
        (large, "is larger than 64 KiB", "is it the right one?"),
    ],
)
def test_the_message_says_what_is_at_the_path(tmp_path: Path, place: Place, message: str, hint: str) -> None:
    path = place(tmp_path)
    found = problem(path)
    assert (found.code, found.line) == ("variable-file", 2)
    assert path in found.message
    assert message in found.message
    assert hint in (found.hint or "")


@pytest.mark.parametrize("place", [folder, link_to_a_folder, nearly])
def test_the_file_that_a_hint_names_works(tmp_path: Path, place: Place) -> None:
    hint = problem(place(tmp_path)).hint or ""
    named = re.search(r"\$\{file:(.+)\}|did you mean (.+)\?", hint)
    assert named is not None, hint
    assert problems(named[1] or named[2]) == ()


@pytest.mark.parametrize("place", [folder, pipe, binary, large])
def test_what_is_there_and_wrong_is_an_error_without_secrets_too(tmp_path: Path, place: Place) -> None:
    found = problems(place(tmp_path), secrets=False)
    assert [each.code for each in found] == ["variable-file"]
