"""What a test needs of this machine: a program's path, or a skip that says why; in CI, no skip."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def program(name: str, package: str | None = None) -> str:
    """The path of a program, looked for in the administrator's folders too (nginx lives in one)."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(
            f"{name} is not on this machine (Debian package {package or name}; scripts/tools installs it)"
        )
    return path


def missing(what: str) -> NoReturn:
    """Skip the test, saying why; in CI nothing may be left out, so there it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
