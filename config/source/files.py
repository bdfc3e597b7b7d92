"""Reads regular files only: opening a pipe or a device among them could block for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

NOT_REGULAR: Final = "not a regular file (a pipe, a device or a socket)"


def read_regular(path: Path, most: int) -> bytes:
    """The first `most` bytes of a regular file, symbolic links followed.

    Raises OSError, also where `path` is no regular file: opening a FIFO waits until somebody writes to it. A
    path with a NUL byte raises ValueError.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a path with a NUL byte raises ValueError here
        raise OSError(errno.EINVAL, NOT_REGULAR)
    # It may have been replaced meanwhile: O_NONBLOCK opens a FIFO at once, and the file is looked at again.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR)
        return file.read(most)
