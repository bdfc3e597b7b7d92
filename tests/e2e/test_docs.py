"""What the documents say is true: YAML passes `check`, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import pytest

from config.checks.checker import Form, check
from config.source.variables import WithoutEnvironment
from proxy.cli.main import COMMANDS, main

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCUMENTS: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("clients/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("tests/*.md"),
    ]
)

# YAML that other programs read: what each is known by; its own checks are elsewhere
FOREIGN: Final = re.compile(r"^(apiVersion|services|groups|workflows|rule_files|scrape_configs):", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text."""

    file: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def blocks(file: Path) -> Iterator[Block]:
    """All fenced blocks of a document."""
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"\s*```(.*)", line)
        if fence and opened is None:
            opened, lines = (number, fence[1].strip()), []
        elif fence and opened is not None:
            yield Block(file, opened[0], opened[1], "\n".join(lines) + "\n")
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{file}: a block without an end"


ALL: Final = [block for file in DOCUMENTS for block in blocks(file)]
YAML: Final = [b for b in ALL if b.language in {"yaml", "yml"} and not FOREIGN.search(b.text)]
SHELL: Final = [b for b in ALL if b.language in {"sh", "bash", "shell", "console"}]


@pytest.mark.parametrize("block", YAML, ids=str)
def test_every_yaml_block_passes_check(block: Block) -> None:
    is_team = "hatchet:" not in block.text and "teams:" not in block.text
    form = Form.TEAM if is_team else None
    checked = check(str(block), block.text.encode(), form, WithoutEnvironment())
    assert [str(problem) for problem in checked.problems] == []


def test_the_readme_shows_the_example_as_it_is() -> None:
    shown = next(block for block in YAML if block.file.name == "README.md")
    assert shown.text == (ROOT / "streams.example.yaml").read_text(encoding="utf-8")


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, as words, without comments, prompts and continuations."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


OURS: Final = [
    pytest.param(words, id=f"{block} {' '.join(words)}")
    for block in SHELL
    for words in commands(block)
    if words[0] == "stream-proxy" or words[0].startswith("scripts/")
]
TABLED: Final = [
    pytest.param(shlex.split(found), id=f"{file.name} {found}")
    for file in DOCUMENTS
    for found in re.findall(r"`(stream-proxy [^`]+)`", file.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("words", [*OURS, *TABLED])
def test_every_command_shown_exists_and_takes_these_options(words: list[str]) -> None:
    if words[0].startswith("scripts/"):
        assert (ROOT / words[0]).is_file()
        return
    name, *rest = until_operator(words[1:])
    if name == "COMMAND" or name.startswith("-"):
        return
    with click.Context(main, info_name="stream-proxy") as parent:
        command = main.get_command(parent, name)
        assert command is not None, f"there is no command {name}"
        with click.Context(command, info_name=name, parent=parent) as context:
            command.make_parser(context).parse_args(args=rest)  # raises NoSuchOption


def until_operator(words: list[str]) -> list[str]:
    """The words of the first command of a pipeline."""
    ends = [at for at, word in enumerate(words) if word in {"|", ">", "&&", ";", "&", "||"}]
    return words[: ends[0]] if ends else words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_explains_itself(name: str) -> None:
    assert f"`stream-proxy {name}" in (ROOT / "README.md").read_text(encoding="utf-8")
    with click.Context(main, info_name="stream-proxy") as parent:
        command = main.get_command(parent, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=parent) as context:
            help_text = command.get_help(context)
    assert len(help_text.splitlines()) > 3


LINKS: Final = [
    pytest.param(file, link, id=f"{file.relative_to(ROOT)} {link}")
    for file in DOCUMENTS
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    if "://" not in link
]


@pytest.mark.parametrize(("file", "link"), LINKS)
def test_every_link_within_the_repository_has_a_target(file: Path, link: str) -> None:
    assert (file.parent / link).exists()


ANCHORS: Final = [
    pytest.param(file, link, anchor, id=f"{file.relative_to(ROOT)} {link}#{anchor}")
    for file in DOCUMENTS
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", file.read_text(encoding="utf-8"))
    if "://" not in link
]


def anchor_of(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize(("file", "link", "anchor"), ANCHORS)
def test_every_link_to_a_heading_finds_it(file: Path, link: str, anchor: str) -> None:
    target = file.parent / link if link else file
    headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
    assert anchor in {anchor_of(heading) for heading in headings}


def test_the_readme_leads_to_every_document() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    unmentioned = [str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")]
    assert [path for path in unmentioned if path not in readme] == []
