"""Only regular files are read: a pipe, a device or a socket in their place is refused at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from config.source.files import read_regular


def test_a_regular_file_is_read_up_to_the_bound_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 100) == b"0123456789"
    assert read_regular(tmp_path / "link", 4) == b"0123"


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "stderr", "folder"])
def test_anything_else_is_refused_and_nobody_waits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null" if kind == "device" else "/dev/stderr")
        if kind == "stderr" and path.is_file():
            pytest.skip("standard error is a file here")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(path, 100)


def test_a_file_that_becomes_a_pipe_while_it_is_opened_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"text")
    os.mkfifo(tmp_path / "fifo")
    regular = (tmp_path / "file").stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: regular)
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(tmp_path / "fifo", 100)
