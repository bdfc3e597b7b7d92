"""Redis for tests: redis-server on loopback, with nothing on disk, and a client for the test itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from redis import Redis

from tests.support.processes import free_port
from tests.support.tools import need

SETTINGS: Final = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "protected-mode": "no"}
DOWN_AFTER: Final = 500  # milliseconds after which a Sentinel takes a server for down
START: Final = 30.0  # seconds until it must answer


class RedisServer:
    """One Redis, always on the same port; it keeps nothing when it ends."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._settings = dict(settings or {})
        self.password = self._settings.get("requirepass")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [need("redis-server")]
        settings = {**SETTINGS, "port": str(self.port), "dir": str(self._folder), **self._settings}
        for key, value in settings.items():
            words += [f"--{key}", value]
        self.run(words)

    def run(self, words: list[str]) -> None:
        """Start it with this command, whose port is its own, and wait until it answers."""
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        ends_at = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < ends_at, "redis-server does not answer"
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It answers nothing any more, and keeps its connections."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)

    def call(self, *words: str, **options: Any) -> Any:
        """The answer to one command."""
        with Redis(port=self.port, decode_responses=True, encoding_errors="replace", **options) as client:
            return client.execute_command(*words)


@contextlib.contextmanager
def redis_server(folder: Path, **settings: str) -> Iterator[RedisServer]:
    """A Redis; settings have ``_`` for ``-``."""
    server = RedisServer(folder, {key.replace("_", "-"): value for key, value in settings.items()})
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def redis_sentinel(folder: Path, service: str, master: RedisServer, **settings: str) -> Iterator[RedisServer]:
    """A Sentinel that knows `master` as `service`, and its replica if it has one."""
    sentinel = RedisServer(folder)
    config = folder / f"sentinel{sentinel.port}.conf"
    # without the password the Sentinel soon takes the master for down
    password = f"sentinel auth-pass {service} {master.password}\n" if master.password else ""
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {folder}\n"
        + "".join(f"{name} {value}\n" for name, value in settings.items())
        + f"sentinel monitor {service} 127.0.0.1 {master.port} 1\n"
        f"sentinel down-after-milliseconds {service} {DOWN_AFTER}\n"
        f"{password}"
    )
    try:
        sentinel.run([need("redis-sentinel"), str(config)])
        yield sentinel
    finally:
        sentinel.kill()
