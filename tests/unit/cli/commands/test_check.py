"""`stream-proxy check` as a program: statuses, formats, colours, and what it does not load."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from proxy.cli.commands.check import command
from tests.support.secrets import HATCHET_TOKEN

CASES: Final = Path(__file__).parents[3] / "unit/config/checks/cases"
ENV: Final = {"TOKEN": HATCHET_TOKEN, "LONG": "t" * 64}
FINE: Final = str(CASES / "fine.yaml")
UNTESTED: Final = str(CASES / "const_fine.yaml")  # it has no tests
WARNED: Final = str(CASES / "payload_json_without_chunks.yaml")
WRONG: Final = str(CASES / "duration.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env=ENV)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([FINE], 0),
        ([WARNED], 0),
        ([WARNED, "--strict"], 1),
        (["--strict", UNTESTED], 0),
        (["--strict", FINE], 1),  # its test reaches none of its rules
        ([WRONG], 1),
        ([FINE, WRONG], 1),
        ([FINE, "/does/not/exist.yaml"], 2),
        ([WRONG, "/does/not/exist.yaml"], 2),
        ([str(CASES.parent)], 2),  # a folder without a proxy.yaml
        ([str(CASES)], 1),  # a folder with one
        ([], 2),
        ([FINE, "--format", "xml"], 2),
        ([FINE, "--frobnicate"], 2),
    ],
)
def test_problems_and_usage_errors_have_different_exit_statuses(arguments: list[str], status: int) -> None:
    assert run(*arguments).exit_code == status


def test_only_json_goes_to_standard_output() -> None:
    result = run("--format", "json", WRONG, FINE, "/does/not/exist.yaml")
    found = json.loads(result.stdout)
    assert {each["file"] for each in found} == {WRONG, "/does/not/exist.yaml"}
    assert result.stderr == ""


def test_without_problems_json_is_an_empty_array_and_github_is_empty() -> None:
    assert json.loads(run("--format", "json", FINE).stdout) == []
    assert run("--format", "github", FINE).stdout == ""
    assert run(FINE).stdout == "1 file: no problems\n"


def test_a_path_given_twice_is_checked_once() -> None:
    assert run(FINE, FINE).stdout == "1 file: no problems\n"


def on_a_terminal(**env: str) -> str:
    """The output of the program on a terminal."""
    outer, inner = pty.openpty()
    program = [sys.executable, "-c", "from proxy.cli.main import start; start()", "check", WRONG]
    try:
        subprocess.run(
            program, stdout=inner, env={"PATH": os.environ["PATH"], "TERM": "xterm", **env}, check=False
        )
        os.close(inner)
        out = b""
        while True:
            try:
                more = os.read(outer, 65536)
            except OSError:
                return out.decode()
            if not more:
                return out.decode()
            out += more
    finally:
        os.close(outer)


def test_colours_are_for_terminals_that_want_them() -> None:
    assert "\x1b[1;31merror:" in on_a_terminal()
    assert "\x1b" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(TERM="dumb")
    assert "\x1b" not in run(WRONG).stdout


def test_check_does_not_load_grpc_nor_the_server() -> None:
    program = (
        "import sys\nfrom proxy.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.partition('.')[0] in"
        " ('grpc', 'hatchet_sdk', 'starlette', 'uvicorn', 'aiohttp', 'rich', 'watchfiles', 'asyncio')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check", FINE], capture_output=True, text=True, env=ENV, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_pydantic_does_not_search_for_plugins() -> None:
    program = (
        "import sys\nfrom proxy.cli.main import main, prepare\nprepare()\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check", FINE], capture_output=True, text=True, env=ENV, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


AS_A_PROGRAM = [sys.executable, "-c", "from proxy.cli.main import start; start()", "check"]


def test_the_program_ends_with_the_status_and_the_output_of_the_command() -> None:
    for path, status in ((FINE, 0), (WRONG, 1), ("/not/here.yaml", 2)):
        done = subprocess.run([*AS_A_PROGRAM, path], capture_output=True, text=True, env=ENV, check=False)
        said = run(path)
        assert (done.returncode, done.stdout, done.stderr) == (status, said.stdout, said.stderr)


def test_the_program_takes_nothing_apart_at_its_end() -> None:
    program = f"import atexit\natexit.register(print, 'taken apart')\n{AS_A_PROGRAM[2]}"
    command = [sys.executable, "-c", program]
    done = subprocess.run([*command, "check", FINE], capture_output=True, text=True, env=ENV, check=True)
    assert done.stdout == "1 file: no problems\n"
    done = subprocess.run([*command, "schema"], capture_output=True, text=True, env=ENV, check=True)
    assert done.stdout.endswith("taken apart\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*AS_A_PROGRAM, FINE], stdout=full, stderr=subprocess.PIPE, env=ENV, check=False
        )
    assert done.returncode != 0
    assert b"No space left" in done.stderr


def test_without_the_environment_a_file_is_checked_without_its_secrets(tmp_path: Path) -> None:
    teams = tmp_path / "teams"
    teams.mkdir()
    (teams / "a.yaml").write_text("version: 1\nstreams: {chat: {rules: [{events: step_completed}]}}\n")
    text = 'version: 1\nteams: {a: {hatchet: {token: "${NOT_HERE}", ca: "${file:/not/here}"}, auth: none}}\n'
    (tmp_path / "proxy.yaml").write_text(text)
    for path in (tmp_path, tmp_path / "proxy.yaml", teams / "a.yaml"):
        result = CliRunner().invoke(command, ["--no-env", "--strict", str(path)])
        assert (result.exit_code, result.output) == (0, result.output)
        assert "no problems" in result.output
    with_env = CliRunner().invoke(command, [str(tmp_path)])
    assert with_env.exit_code == 1
    assert "--no-env" in with_env.output
