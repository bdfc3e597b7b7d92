"""Notices a change of the configuration's files within two seconds, and reports it once they are settled.

A change is found by comparing what the files are. So it does not matter whether an editor renamed a file, a
file was written in place, a ConfigMap's symlink was swapped or a secret's file was replaced. Notices of the
operating system only make the comparison happen sooner. Where they do not come (network file systems, a
target outside the folder, no watches left), the comparison once a second finds the change. What happens then
is up to the callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from watchfiles import awatch

from config.load import PROXY, TEAMS, team_files
from config.problems import ConfigError
from config.source.reader import MOST_BYTES
from config.source.variables import REFERENCE

POLL_EVERY: Final = 1.0  # seconds between comparisons without a notice: two seconds are promised
SETTLED_AFTER: Final = 0.2  # seconds that the files must not change: no half-written file is read
SETTLE_TIMEOUT: Final = 1.0  # seconds: a file that changes all the time is read nevertheless

Stamp = tuple[int, int, int, int] | None
Fingerprint = dict[str, Stamp]


async def watch(
    path: Path, changed: Callable[[], Awaitable[None]], *, ready: asyncio.Event | None = None
) -> None:
    """Calls `changed` after each change of the files at `path`; never returns.

    `ready` is set as soon as no change can be missed any more.
    """
    noticed = asyncio.Event()
    notices = asyncio.create_task(listen(path, noticed))
    try:
        known = await asyncio.to_thread(fingerprint, path)
        if ready is not None:
            ready.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY):  # wait_for can swallow a cancellation
                    await noticed.wait()
            noticed.clear()
            now = await asyncio.to_thread(fingerprint, path)
            if now != known:
                known = await settled(path, now)
                await changed()
    finally:
        notices.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await notices


async def settled(path: Path, seen: Fingerprint) -> Fingerprint:
    """Waits until the files stop changing; their fingerprint then."""
    for _ in range(round(SETTLE_TIMEOUT / SETTLED_AFTER)):
        await asyncio.sleep(SETTLED_AFTER)
        now = await asyncio.to_thread(fingerprint, path)
        if now == seen:
            break
        seen = now
    return seen


async def listen(path: Path, noticed: asyncio.Event) -> None:
    """Sets `noticed` at each notice of the operating system; returns where there are none."""
    folder, below = folder_of(path)
    with contextlib.suppress(OSError, RuntimeError):
        async for _ in awatch(folder, watch_filter=None, debounce=50, step=20, recursive=below):
            noticed.set()


def folder_of(path: Path) -> tuple[Path, bool]:
    """The folder to watch, and whether its subfolders are watched too."""
    below = path.is_dir()
    return (path if below else path.absolute().parent), below


def fingerprint(path: Path) -> Fingerprint:
    """The version of each file of the configuration at `path`, by its name."""
    found: Fingerprint = {}
    for file in files(path):
        found[str(file)] = stamp(file)
        for secret in secrets(file):
            found[secret] = stamp(Path(secret))
    return found


def files(path: Path) -> Iterator[Path]:
    """The files and folders of the configuration."""
    if not path.is_dir():
        yield path
        return
    yield path / PROXY
    with contextlib.suppress(ConfigError):
        yield from team_files(path)
    yield path / TEAMS


def secrets(file: Path) -> list[str]:
    """The files that a configuration's file names with `${file:…}`."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return []
    return [match["path"] for match in REFERENCE.finditer(text) if match["path"]]


def stamp(file: Path) -> Stamp:
    """What identifies a file's version, symlinks followed; None where there is no file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a path with a NUL byte raises ValueError here, nothing else does
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
