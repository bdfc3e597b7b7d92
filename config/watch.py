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
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from watchfiles import awatch

from config.load import PROXY, TEAMS, team_files
from config.problems import ConfigError
from config.source.files import read_regular
from config.source.reader import MOST_BYTES, referenced_files

POLL_EVERY: Final = 1.0  # seconds between comparisons without a notice: two seconds are promised
SETTLED_AFTER: Final = 0.2  # seconds that the files must not change: no half-written file is read
SETTLE_TIMEOUT: Final = 1.0  # seconds: a file that changes all the time is read nevertheless
SLOW: Final = 10.0  # seconds of one comparison after which the log says that the files cannot be read

Stamp = tuple[int, int, int, int] | None
Fingerprint = dict[str, Stamp]

_log: Final = logging.getLogger(__name__)


async def watch(
    path: Path,
    changed: Callable[[], Awaitable[None]],
    *,
    known: Fingerprint | None = None,
    ready: asyncio.Event | None = None,
) -> None:
    """Calls `changed` after each change of the files at `path`; never returns.

    `known` is the fingerprint of the version that is served: with it no change since that version was read is
    missed; None: changes count from now on. `ready` is set as soon as no change can be missed any more.
    Nothing ends it: an exception in `changed`, or in a comparison, is logged, and the files are looked at
    again.
    """
    noticed = asyncio.Event()
    notices = asyncio.create_task(listen(path, noticed))
    watched = Watched(path)
    try:
        known = await watched.look() if known is None else known
        if ready is not None:
            ready.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY):  # wait_for can swallow a cancellation
                    await noticed.wait()
            noticed.clear()
            try:
                now = await watched.look()
                if now != known:
                    known = await watched.settled(now)
                    await changed()
            except Exception:
                _log.exception(
                    "the configuration's files could not be compared or loaded; the proxy tries again"
                )
    finally:
        notices.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await notices


class Watched:
    """The files of the configuration at `path`, and which files each of them names with ``${file:…}``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: dict[str, tuple[Stamp, list[str]]] = {}  # by file: its version, and what it names

    async def look(self) -> Fingerprint:
        """The fingerprint of the files now, read in a thread.

        Waits for a file system that hangs, and says so in the log.
        """
        looking = asyncio.ensure_future(asyncio.to_thread(fingerprint, self._path, self._named))
        try:
            while not (await asyncio.wait([looking], timeout=SLOW))[0]:
                _log.warning("the configuration's files cannot be read for %g seconds: they hang", SLOW)
            return looking.result()
        finally:
            looking.cancel()

    async def settled(self, seen: Fingerprint) -> Fingerprint:
        """Waits until the files stop changing; their fingerprint then."""
        for _ in range(round(SETTLE_TIMEOUT / SETTLED_AFTER)):
            await asyncio.sleep(SETTLED_AFTER)
            now = await self.look()
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


def fingerprint(path: Path, named: dict[str, tuple[Stamp, list[str]]] | None = None) -> Fingerprint:
    """The version of each file of the configuration at `path`, by its name.

    `named` remembers which files each file names, so that only a changed file is read again.
    """
    named = {} if named is None else named
    found: Fingerprint = {}
    for file in files(path):
        found[str(file)] = version = stamp(file)
        if file.parent.name == TEAMS and file.parent.parent == path:
            continue  # a team's file has no variables
        known = named.get(str(file))
        if known is None or known[0] != version:
            known = named[str(file)] = (version, secrets(file))
        for secret in known[1]:
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
    """The files that the values of a configuration's file name with `${file:…}`; comments do not count."""
    try:
        text = read_regular(file, MOST_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    return referenced_files(text)


def stamp(file: Path) -> Stamp:
    """What identifies a file's version, symlinks followed; None where there is no file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a path with a NUL byte raises ValueError here, nothing else does
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
