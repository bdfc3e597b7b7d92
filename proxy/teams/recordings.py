"""The recorded runs that tests name: files of ``stream-proxy record``, which lie beside the YAML or below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy.core.events import Item
from proxy.rules.sample_event import GivenProblem
from proxy.runs.replay import NotARecording, items_of_recording

MOST_BYTES: Final = 16 << 20
"""Of one recording: a reload reads it, and a run of ordinary size has some hundred kilobytes."""


class RecordingFiles:
    """Reads the recordings of one file's tests, each once."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where the YAML lies."""
        self._folder = folder
        self._read: dict[str, Sequence[Item]] = {}

    def __call__(self, file: str) -> Sequence[Item]:
        """The items of a recorded run; raises GivenProblem."""
        if file not in self._read:
            self._read[file] = self._items(file)
        return self._read[file]

    def _items(self, file: str) -> Sequence[Item]:
        hint = "make one with stream-proxy record"
        path = self._folder / file
        if ".." in path.parts or not path.resolve().is_relative_to(self._folder.resolve()):
            raise GivenProblem("a recording lies beside the file, or in a folder below", "move it there")
        if not path.is_file():
            raise GivenProblem(f"there is no recording {file}", hint)
        try:
            with path.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise GivenProblem(
                    f"the recording {file} is larger than {MOST_BYTES >> 20} MiB", "record less"
                )
            return items_of_recording(content.decode().splitlines())
        except NotARecording as error:
            raise GivenProblem(f"{file} cannot be read: {error}", hint) from None
        except OSError as error:
            raise GivenProblem(f"{file} cannot be read: {error.strerror}", hint) from None
        except UnicodeDecodeError:
            raise GivenProblem(f"{file} cannot be read: it is not UTF-8", hint) from None
