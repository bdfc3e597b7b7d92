"""A change is noticed within two seconds, whatever it looks like, and reported once when it is quiet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from config.source.reader import MOST_REFERENCES
from config.watch import POLL_EVERY, SETTLE_TIMEOUT, SETTLED_AFTER, Fingerprint, fingerprint, secrets, watch
from tests.support.waiting import until

NOTICED: Final = (
    30.0  # seconds: a deadline for busy machines; the constants below make the promised two seconds
)
TEXT: Final = "version: 1\n"
WRITER_PACE: Final = 0.01  # seconds between two writes: well below SETTLED_AFTER


class Changes:
    """Who is called when something has changed."""

    def __init__(self) -> None:
        self.times = 0
        self.event = asyncio.Event()

    async def __call__(self) -> None:
        self.times += 1
        self.event.set()

    async def within(self, seconds: float) -> None:
        await asyncio.wait_for(self.event.wait(), seconds)
        self.event.clear()


ENOUGH: Final = 4  # comparisons: one that finds a change, one that finds it settled; the callback comes next


class Comparisons:
    """Counts how often the files were looked at."""

    def __init__(self) -> None:
        self.count = 0

    def fingerprint(self, path: Path, named: dict[str, Any] | None = None) -> Fingerprint:
        found = fingerprint(path, named)
        self.count += 1
        return found

    async def further(self, count: int) -> None:
        """Wait for so many that begin from now on."""
        last = self.count + 1 + count  # one may be under way
        await until(lambda: self.count >= last)


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Comparisons:
    """Counted, and made often."""
    one = Comparisons()
    monkeypatch.setattr("config.watch.fingerprint", one.fingerprint)
    monkeypatch.setattr("config.watch.POLL_EVERY", 0.05)
    return one


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Changes]:
    changes, ready = Changes(), asyncio.Event()
    task = asyncio.create_task(watch(path, changes, ready=ready))
    try:
        await asyncio.wait_for(ready.wait(), 5)
        yield changes
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streams.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory form, mounted as Kubernetes does it."""
    (tmp_path / "proxy.yaml").write_text(TEXT)
    old = tmp_path / "teams" / "..old"
    old.mkdir(parents=True)
    (old / "a.yaml").write_text(TEXT)
    (tmp_path / "teams" / "..data").symlink_to("..old")
    (tmp_path / "teams" / "a.yaml").symlink_to("..data/a.yaml")
    return tmp_path


def test_a_look_and_the_wait_for_quiet_files_are_within_the_promised_two_seconds() -> None:
    assert POLL_EVERY + SETTLED_AFTER <= 2.0 / 1.5
    assert POLL_EVERY + SETTLE_TIMEOUT <= 2.0


async def test_a_plain_write_is_noticed(file: Path) -> None:
    async with watching(file) as changes:
        file.write_text("version: 1 # changed\n")
        await changes.within(NOTICED)


async def test_an_editors_rename_over_is_noticed_and_so_is_the_next(file: Path) -> None:
    async with watching(file) as changes:
        for number in range(3):
            other = file.with_name(".streams.yaml.tmp")
            other.write_text(f"version: {number}\n")
            other.replace(file)
            await changes.within(NOTICED)
    assert changes.times == 3


async def test_a_configmaps_swapped_symlink_is_noticed(folder: Path) -> None:
    async with watching(folder) as changes:
        new = folder / "teams" / "..new"
        new.mkdir()
        (new / "a.yaml").write_text(TEXT)
        (folder / "teams" / "..data_tmp").symlink_to("..new")
        (folder / "teams" / "..data_tmp").replace(folder / "teams" / "..data")
        await changes.within(NOTICED)


async def test_a_new_team_and_a_team_that_goes_are_noticed(folder: Path) -> None:
    async with watching(folder) as changes:
        (folder / "teams" / "b.yaml").write_text(TEXT)
        await changes.within(NOTICED)
        (folder / "teams" / "b.yaml").unlink()
        await changes.within(NOTICED)


async def test_a_teams_folder_that_comes_later_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "proxy.yaml").write_text(TEXT)
    async with watching(tmp_path) as changes:
        (tmp_path / "teams").mkdir()
        (tmp_path / "teams" / "a.yaml").write_text(TEXT)
        await changes.within(NOTICED)


async def test_a_target_outside_the_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.yaml"
    target.write_text(TEXT)
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "streams.yaml"
    link.symlink_to(target)
    async with watching(link) as changes:
        target.write_text("version: 1 # changed\n")
        await changes.within(NOTICED)


async def test_a_secrets_file_that_is_replaced_is_a_change(tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "token"
    secret.parent.mkdir()
    secret.write_text("one")
    file = tmp_path / "streams.yaml"
    file.write_text(f'hatchet: {{token: "${{file:{secret}}}"}}\n')
    async with watching(file) as changes:
        secret.write_text("another")
        await changes.within(NOTICED)


async def test_a_file_that_goes_and_comes_back_is_noticed(file: Path) -> None:
    async with watching(file) as changes:
        file.unlink()
        await changes.within(NOTICED)
        file.write_text(TEXT)
        await changes.within(NOTICED)


async def test_many_writes_in_a_row_are_reported_once(file: Path, comparisons: Comparisons) -> None:
    async with watching(file) as changes:
        for number in range(20):
            file.write_text(f"version: {number}\n")
            await asyncio.sleep(WRITER_PACE)
        await changes.within(NOTICED)
        await comparisons.further(ENOUGH)
    assert changes.times == 1


async def test_a_file_that_never_rests_is_read_all_the_same(file: Path) -> None:
    async def restless() -> None:
        number = 0
        while True:
            number += 1
            file.write_text(f"version: {number}\n")
            await asyncio.sleep(WRITER_PACE)

    async with watching(file) as changes:
        writing = asyncio.create_task(restless())
        try:
            await changes.within(NOTICED)
        finally:
            writing.cancel()


async def test_a_change_of_another_file_in_the_folder_is_not_reported(
    file: Path, comparisons: Comparisons
) -> None:
    async with watching(file) as changes:
        file.with_name("other.txt").write_text("x")
        (file.parent / "deep").mkdir()
        os.utime(file.parent, (time.time(), time.time()))
        await comparisons.further(ENOUGH)
    assert changes.times == 0


async def test_a_folder_that_cannot_be_watched_is_looked_at_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "not" / "yet" / "streams.yaml"
    async with watching(file) as changes:
        file.parent.mkdir(parents=True)
        file.write_text(TEXT)
        await changes.within(NOTICED)


# -- what is watched, and what cannot stop it --


def test_only_files_that_values_name_are_watched(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text('# ${file:/comment}\na: "${file:/value}" # ${file:/after}\nb: x${file:/second}y\n')
    assert {*fingerprint(path)} == {str(path), "/value", "/second"}


def test_a_comment_of_75000_references_is_not_watched_in_any_file(folder: Path) -> None:
    comment = "# " + " ".join(f"${{file:/{number}}}" for number in range(75_000)) + "\n"
    (folder / "proxy.yaml").write_text(comment + TEXT)
    (folder / "teams" / "a.yaml").write_text(comment + 'b: "${file:/a-teams-file-has-no-variables}"\n')
    assert len(fingerprint(folder)) == 3


def test_the_number_of_watched_files_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text("".join(f'a{number}: "${{file:/{number}}}"\n' for number in range(5_000)))
    assert len(fingerprint(path)) == 1 + MOST_REFERENCES


def test_what_a_file_names_is_read_again_only_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text('a: "${file:/one}"\n')
    reads: list[Path] = []

    def counted(file: Path) -> list[str]:
        reads.append(file)
        return secrets(file)

    monkeypatch.setattr("config.watch.secrets", counted)
    named: dict[str, Any] = {}
    for _ in range(5):
        assert "/one" in fingerprint(path, named)
    assert len(reads) == 1
    path.write_text('a: "${file:/another}"\n')
    assert "/another" in fingerprint(path, named)
    assert len(reads) == 2


async def test_a_pipe_among_the_files_is_noticed_and_nobody_waits_for_it(folder: Path) -> None:
    async with watching(folder) as changes:
        os.mkfifo(folder / "teams" / "b.yaml")
        await changes.within(NOTICED)
        (folder / "teams" / "c.yaml").write_text(TEXT)
        await changes.within(NOTICED)


async def test_an_exception_in_the_callback_does_not_end_the_watch(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    called = asyncio.Event()

    async def broken() -> None:
        called.set()
        raise RecursionError

    ready = asyncio.Event()
    task = asyncio.create_task(watch(file, broken, ready=ready))
    await asyncio.wait_for(ready.wait(), 5)
    for number in range(2):
        called.clear()
        file.write_text(f"version: {number}\n")
        await asyncio.wait_for(called.wait(), NOTICED)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert "tries again" in caplog.text


async def test_a_change_between_the_reading_of_the_files_and_the_begin_of_the_watch_is_noticed(
    file: Path,
) -> None:
    served = fingerprint(file)
    file.write_text("version: 1 # changed while the process started\n")
    changes = Changes()
    task = asyncio.create_task(watch(file, changes, known=served))
    await changes.within(NOTICED)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
