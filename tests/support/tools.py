"""Foreign programs that tests drive: found, or the test is skipped and says why (CI=true: it fails)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
TOOLS: Final = ROOT / ".tools"

GO: Final = Path.home() / "go/bin"  # where scripts/tools lets go install what Debian does not have
NAMES: Final = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "nginx": ("nginx", "/usr/sbin/nginx"),
    "haproxy": ("haproxy", "/usr/sbin/haproxy"),
    "helm": ("helm", str(GO / "helm")),
    "actionlint": ("actionlint", str(GO / "actionlint")),
}


def missing(what: str) -> None:
    """Skip, or fail where nothing may be left out."""
    text = f"{what} is missing; scripts/tools installs it where it can"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def need(tool: str) -> str:
    """The path of a program."""
    for name in NAMES.get(tool, (tool,)):
        found = shutil.which(name)
        if found:
            return found
    found = _from_a_wheel(tool)
    if found:
        return found
    if tool == "chromium":
        found = next(iter(map(str, sorted((TOOLS / "browsers").glob("chromium*/chrome-*/*chrom*")))), None)
        if found:
            return found
    missing(tool)
    raise AssertionError("never reached")


def _from_a_wheel(tool: str) -> str | None:
    """A program that a package of the extra `test` brought."""
    spec = importlib.util.find_spec(tool) if tool == "envoy" else None
    folders = [Path(sys.executable).parent]
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "_bin")  # its script in bin/ would only start this program
    return next((str(path) for folder in reversed(folders) if (path := folder / tool).is_file()), None)


def need_npm(package: str) -> Path:
    """The folder of an npm package that scripts/tools installs."""
    folder = TOOLS / "node_modules" / package
    if not folder.is_dir():
        missing(f"npm's {package}")
    return folder
