"""The npm package as `npm pack` makes it, and folders in which foreign programs find it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.support.tools import ROOT, TOOLS, missing, need

PACKAGE: Final = ROOT / "clients" / "js"
NAME: Final = "hatchet-stream-proxy"


def packed(folder: Path) -> Path:
    """Pack the package into `folder`; the tarball."""
    done = subprocess.run(
        [need("npm"), "pack", str(PACKAGE), "--pack-destination", str(folder), "--silent"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.split()[-1]


def node_modules(folder: Path, *needed: str, linked: bool = True) -> Path:
    """Make ``folder/node_modules``: the packed package, and what scripts/tools installs for the examples.

    Turbopack follows no symbolic links that lead out of the folder: with `linked` False the files are there.
    """
    source = TOOLS / "examples" / "node_modules"
    for package in needed:
        if not (source / package).is_dir():
            missing(f"npm's {package}")
    modules = folder / "node_modules"
    if linked:
        modules.mkdir(parents=True)
    else:
        hard = subprocess.run(
            ["cp", "-al", str(source), str(modules)], check=False, stderr=subprocess.DEVNULL
        )
        if hard.returncode:  # on another file system
            shutil.copytree(source, modules, symlinks=True, dirs_exist_ok=True)
    with tarfile.open(packed(folder)) as tar:
        tar.extractall(modules, filter="data")
    (modules / "package").rename(modules / NAME)
    for entry in source.iterdir() if source.is_dir() else ():
        if not (modules / entry.name).exists():
            (modules / entry.name).symlink_to(entry)
    return modules


COMPILER: Final = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noEmit": True,
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom"],
    "jsx": "react-jsx",
    "types": [],
}


def compiled(folder: Path, *files: str) -> str:
    """What `tsc --strict` finds in files of a folder where the package is installed."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER, "files": files}))
    tsc = folder / "node_modules" / "typescript" / "bin" / "tsc"
    ran = subprocess.run(
        [need("node"), tsc, "-p", folder], capture_output=True, text=True, check=False, timeout=100
    )
    return ran.stdout + ran.stderr


def tool(folder: Path, package: str, script: str, *words: str) -> None:
    """Run a program of an npm package in a folder; it must succeed and say nothing of errors."""
    program = (need("node"), str(folder / "node_modules" / package / script), *words)
    ran = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
