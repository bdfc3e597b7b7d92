"""ARCHITECTURE.md is true: its paths exist, every package is named, its layers are those of the contracts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
TEXT: Final = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```(\w*)\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE)
TOP: Final = "proxy|config|tests|docs|clients|deploy|bench|examples|scripts"
PATHS: Final = sorted(set(re.findall(rf"`((?:{TOP})/[\w./-]*)`", TEXT)))
PACKAGES: Final = sorted(
    str(file.parent.relative_to(ROOT))
    for top in ("proxy", "config")
    for file in (ROOT / top).rglob("__init__.py")
    if not str(file.parent.relative_to(ROOT)).startswith(("proxy/simulator/", "proxy/cli/"))
)


def test_it_names_many_paths() -> None:
    assert len(PATHS) > 60


@pytest.mark.parametrize("path", PATHS)
def test_every_path_in_it_exists(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_in_it(package: str) -> None:
    assert package == "proxy" or f"`{package}/`" in TEXT


def test_its_layers_are_those_of_the_import_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = {contract["name"]: contract.get("layers") for contract in contracts["contracts"]}
    shown = [text.split("\n") for language, text in BLOCKS if language == "layers"]
    assert shown == [
        layers["The packages of proxy import downwards only"],
        layers["The packages of config import downwards only"],
    ]


def test_the_modules_in_its_diagrams_exist() -> None:
    diagrams = [text for language, text in BLOCKS if language == ""]
    named = {
        word
        for diagram in diagrams
        for word in re.findall(r"\b(?:\w+/)+\w+\b", diagram)
        if word.split("/")[0] in {"config", *(folder.name for folder in (ROOT / "proxy").iterdir())}
    }
    assert len(named) > 12
    missing = []
    for word in sorted(named):
        base = ROOT / word if word.startswith("config/") else ROOT / "proxy" / word
        if not (base.is_dir() or base.with_suffix(".py").is_file()):
            missing.append(word)
    assert missing == []
