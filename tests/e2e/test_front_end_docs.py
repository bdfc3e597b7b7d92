"""The code in docs/front-ends is the examples' code, which another test builds and drives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.tools import ROOT

PAGES: Final = sorted((ROOT / "docs" / "front-ends").glob("*.md"))
BLOCK: Final = re.compile(r"(?:<!-- from (\S+) -->\n\n)?```(\w+)\n(.*?)```\n", re.S)
CODE: Final = {"js", "jsx", "ts", "tsx", "vue", "html", "python", "yaml"}


def excerpts(page: Path) -> list[tuple[str, str]]:
    """Each block of code: the file that it is from, and its text."""
    found = BLOCK.findall(page.read_text())
    return [(file, text) for file, language, text in found if language in CODE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_block_of_code_stands_in_an_example(page: Path) -> None:
    for file, text in excerpts(page):
        assert file, f"{page.name}: a block that names no file: {text[:60]}"
        if file.endswith(".yaml"):
            streams = yaml.safe_load((ROOT / file).read_text())["streams"]
            for stream in streams.values():
                stream.pop("cors", None)  # the examples' pages have another origin than the proxy
            assert yaml.safe_load(text)["streams"].items() <= streams.items()
        else:
            assert text in (ROOT / file).read_text(), f"{page.name}: not in {file}: {text[:60]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_chat_is_some_ten_lines_of_yaml_and_of_code_and_has_a_picture_or_a_recorded_output(
    page: Path,
) -> None:
    if page.stem == "README":
        return
    lengths = [(file.endswith(".yaml"), text.count("\n")) for file, text in excerpts(page)]
    assert sum(length for is_yaml, length in lengths if is_yaml) <= 11
    assert sum(length for is_yaml, length in lengths if not is_yaml) <= 16
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    outputs = [text for _, language, text in BLOCK.findall(page.read_text()) if language == "text"]
    assert pictures or outputs
    assert all((page.parent / picture).is_file() for picture in pictures)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "front-ends" / "README.md").read_text()
    assert [page.name for page in PAGES if page.stem != "README" and f"({page.name})" not in index] == []
