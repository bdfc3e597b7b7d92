"""Nothing of the machine that wrote a file may be in it: no path, no host, no registry, no name, no secret.

The forbidden texts are computed where the test runs (home directory, checkout, temporary folder, pip's and
npm's configured indexes, host name), so that the tree names none of it.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent

PUBLIC: Final = frozenset({"localhost"})  # a host that any text may name, whoever asks it for packages

# what a private key, a token or a log of this kind of tool looks like, wherever it comes from
SECRETS: Final = {
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{40}"),
    "a GitHub token": re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "a cloud key": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
    "a URL with a password": re.compile(rb"https?://[^/\s:@\"'{}$<>]+:[^/\s:@\"'{}$<>]{6,}@[a-z]"),
}
LOCK_FILES: Final = ("package-lock.json", "poetry.lock", "uv.lock", "yarn.lock", "pnpm-lock.yaml")


@cache
def tracked() -> tuple[Path, ...]:
    """What is in the repository; outside of one (an unpacked archive), everything but build products."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return tuple(
            ROOT / name.decode() for name in listed.split(b"\0") if name and (ROOT / name.decode()).is_file()
        )
    return tuple(p for p in ROOT.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.parts))


def files_with(needle: bytes, *, whole_word: bool = False) -> list[str]:
    """The files in which the bytes stand, relative to the root."""
    border = rb"(?![A-Za-z0-9-])" if whole_word else b""
    pattern = re.compile((rb"(?<![A-Za-z0-9-])" if whole_word else b"") + re.escape(needle) + border)
    return [str(path.relative_to(ROOT)) for path in tracked() if pattern.search(path.read_bytes())]


def machine_paths() -> set[str]:
    """Folders that exist on this machine only: the checkout, the home, where the interpreter came from."""
    found = {str(ROOT), str(ROOT.parent), str(Path.home())}
    return {path for path in found if path.count("/") >= 2}


def configured_indexes() -> set[str]:
    """Hosts in the configuration of pip and npm on this machine."""
    urls = [
        value for name, value in os.environ.items() if re.search(r"INDEX_URL|REGISTRY|PROXY", name.upper())
    ]
    urls += [*pip_settings(), *npm_settings()]
    hosts = {urlsplit(url if "//" in url else f"//{url}").hostname for url in urls}
    return {host for host in hosts if host and "." in host and host not in PUBLIC and not host[0].isdigit()}


def pip_settings() -> Iterable[str]:
    """Every value in pip's configuration files that is an address."""
    folders = [Path("/etc"), Path.home() / ".config/pip", Path.home() / ".pip"]
    for file in [folder / "pip.conf" for folder in folders]:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file)
        except (OSError, configparser.Error):
            continue
        for section in parser.sections():
            yield from (word for _, value in parser.items(section) for word in value.split() if "://" in word)


def npm_settings() -> Iterable[str]:
    """Every value in npm's configuration that is an address."""
    if not shutil.which("npm"):
        return
    output = subprocess.run(
        ["npm", "config", "ls", "--json"], capture_output=True, text=True, check=False
    ).stdout
    try:
        settings = json.loads(output)
    except ValueError:
        return
    yield from (value for value in settings.values() if isinstance(value, str) and "://" in value)


def test_no_path_of_the_machine_is_in_the_tree() -> None:
    assert {path: files for path in machine_paths() if (files := files_with(path.encode()))} == {}


def test_no_registry_or_proxy_of_the_machine_is_in_the_tree() -> None:
    assert {host: files for host in configured_indexes() if (files := files_with(host.encode()))} == {}


def test_the_host_name_of_the_machine_is_not_in_the_tree() -> None:
    name = socket.gethostname()
    if len(name) < 8 or name in PUBLIC:
        return  # too short to differ from a word
    assert files_with(name.encode(), whole_word=True) == []


def test_no_lock_file_carries_download_addresses() -> None:
    assert [str(path) for path in tracked() if path.name in LOCK_FILES and b"://" in path.read_bytes()] == []


@pytest.mark.parametrize("kind", SECRETS)
def test_no_secret_is_in_the_tree(kind: str) -> None:
    assert [str(path) for path in tracked() if SECRETS[kind].search(path.read_bytes())] == []


def test_no_file_is_large_without_need() -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked()}
    assert {name: size for name, size in large.items() if size > 1_000_000} == {}
