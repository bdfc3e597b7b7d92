"""A change of the configuration's files, noticed within two seconds and told once they are quiet.

Whatever the change looks like, it is seen by what the files then are: an editor's rename-over, a plain
write, a ConfigMap's symlink that is swapped, a secret's file that is replaced. The system's notices only
make us look sooner; where they do not come (network file systems, a target outside the folder, no watches
left), a look every second finds it. What becomes of the change is the callback's matter.
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

BEAT: Final = 1.0  # seconds between looks without a notice; two seconds are promised
QUIET: Final = 0.2  # the files must have stayed the same for so long: no half-written file is read
IMPATIENCE: Final = 1.0  # but a file that never rests is read all the same

Stamp = tuple[int, int, int, int] | None
Fingerprint = dict[str, Stamp]


async def watch(
    path: Path, changed: Callable[[], Awaitable[None]], *, ready: asyncio.Event | None = None
) -> None:
    """Calls `changed` after each change of what is at `path`; never returns.

    `ready` is set once a change cannot be missed any more.
    """
    stirred = asyncio.Event()
    notices = asyncio.create_task(listen(path, stirred))
    try:
        known = await asyncio.to_thread(fingerprint, path)
        if ready is not None:
            ready.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):  # wait_for can swallow a cancellation
                    await stirred.wait()
            stirred.clear()
            now = await asyncio.to_thread(fingerprint, path)
            if now != known:
                known = await quiet(path, now)
                await changed()
    finally:
        notices.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await notices


async def quiet(path: Path, seen: Fingerprint) -> Fingerprint:
    """Waits until the files rest; what they are then."""
    for _ in range(round(IMPATIENCE / QUIET)):
        await asyncio.sleep(QUIET)
        now = await asyncio.to_thread(fingerprint, path)
        if now == seen:
            break
        seen = now
    return seen


async def listen(path: Path, stirred: asyncio.Event) -> None:
    """Sets `stirred` at each notice of the system; without notices it ends, and the beat remains."""
    folder, below = folder_of(path)
    with contextlib.suppress(OSError, RuntimeError):
        async for _ in awatch(folder, watch_filter=None, debounce=50, step=20, recursive=below):
            stirred.set()


def folder_of(path: Path) -> tuple[Path, bool]:
    """The folder to watch, and whether what is below it counts too."""
    below = path.is_dir()
    return (path if below else path.absolute().parent), below


def fingerprint(path: Path) -> Fingerprint:
    """What is at `path` now: each file that counts, by what tells one version from another."""
    found: Fingerprint = {}
    for file in files(path):
        found[str(file)] = stamp(file)
        for secret in secrets(file):
            found[secret] = stamp(Path(secret))
    return found


def files(path: Path) -> Iterator[Path]:
    """The configuration's files."""
    if not path.is_dir():
        yield path
        return
    yield path / PROXY
    with contextlib.suppress(ConfigError):
        yield from team_files(path)
    yield path / TEAMS


def secrets(file: Path) -> list[str]:
    """The files that `${file:…}` names in a configuration's file."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return []
    return [match["path"] for match in REFERENCE.finditer(text) if match["path"]]


def stamp(file: Path) -> Stamp:
    """A file's version, symlinks followed; None where there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - a path with a NUL byte raises ValueError here, nothing else does
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
