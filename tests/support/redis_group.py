"""A Redis master with a replica, and three Sentinels that watch them, all on loopback."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.tools import need

NAME: Final = "mymaster"
SENTINELS: Final = 3
QUORUM: Final = 2
DOWN_AFTER: Final = 1000  # milliseconds without an answer after which a Sentinel takes a server for down
FAILOVER: Final = 4000  # milliseconds that a failover may take before another one is tried
WATCHED: Final = 60.0  # seconds until the Sentinels must know both servers and each other
JOINED: Final = 60.0  # seconds until a replica must have copied its master
ANSWER: Final = 10.0  # seconds for one answer
EVERY: Final = 0.1  # seconds between two looks
SETTINGS: Final = {"repl-diskless-sync-delay": "0", "repl-timeout": "10", "repl-backlog-size": "16kb"}


class RedisGroup:
    """Two servers of which one is the master, and the Sentinels; what blocks is meant for a thread."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[RedisServer] = []
        for number in range(2):
            place = folder / f"redis{number}"
            place.mkdir()
            self.nodes.append(RedisServer(place, SETTINGS))
        self._folder = folder
        self._ports = [free_port() for _ in range(SENTINELS)]
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._dead: set[RedisServer] = set()

    @property
    def url(self) -> str:
        """What `server.log` names."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{NAME}/0"

    def start(self) -> None:
        """Start all; returns when the replica has copied the master, and the Sentinels know both."""
        for node in self.nodes:
            node.start()
        self._subordinate(self.nodes[1], self.nodes[0])
        for port in self._ports:
            self._sentinels.append(self._sentinel(port))
        self._until(self._is_watched, WATCHED, "the Sentinels know the replica and each other")

    def _sentinel(self, port: int) -> subprocess.Popen[bytes]:
        config = self._folder / f"sentinel{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\nprotected-mode no\nloglevel warning\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.nodes[0].port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {NAME} {FAILOVER}\n"
        )
        return subprocess.Popen(
            [need("redis-sentinel"), str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def stop(self) -> None:
        """End all at once."""
        for process in self._sentinels:
            process.kill()
            process.wait()
        for node in self.nodes:
            node.kill()

    # -- who is the master --

    @property
    def master(self) -> RedisServer:
        """The server that the Sentinels call the master."""
        found = self._ask_sentinel("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(node for node in self.nodes if str(node.port) == found[1])

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        master = self.master
        return next(node for node in self.nodes if node is not master)

    def _ask_sentinel(self, *words: str) -> Any:
        for port in self._ports:
            client = Redis(port=port, decode_responses=True, socket_timeout=ANSWER)
            with contextlib.suppress(RedisError, OSError), client:
                return client.execute_command(*words)  # type: ignore[no-untyped-call]
        raise AssertionError("no Sentinel answers")

    def _is_watched(self) -> bool:
        with contextlib.suppress(AssertionError):
            state = self._ask_sentinel("SENTINEL", "MASTER", NAME)
            if isinstance(state, list):
                state = dict(zip(state[::2], state[1::2], strict=True))
            return (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (1, SENTINELS - 1)
        return False

    # -- what breaks --

    def kill(self, node: RedisServer) -> None:
        """End a server at once; what it held is gone."""
        node.kill()
        self._dead.add(node)

    def pause_master(self) -> None:
        """The master answers nothing any more; it wakes in `repair`, and takes itself for the master."""
        self.master.pause()

    def lag(self) -> None:
        """The replica gets nothing from the master any more, until `repair`."""
        master = self.master
        master.call("ACL", "SETUSER", "default", "-psync", "-sync", socket_timeout=ANSWER)
        master.call("CLIENT", "KILL", "TYPE", "replica", socket_timeout=ANSWER)

    def fail_over(self) -> None:
        """Have the Sentinels make the replica the master, although the master is there."""
        with contextlib.suppress(RedisError):
            self._ask_sentinel("SENTINEL", "FAILOVER", NAME)

    def repair(self) -> None:
        """Both servers run, one is the replica of the other, and has copied it."""
        for node in self.nodes:
            if node in self._dead:
                node.start()
            else:
                node.wake()
        self._dead.clear()
        for node in self.nodes:
            node.call("ACL", "SETUSER", "default", "+psync", "+sync", socket_timeout=ANSWER)
            node.call("CONFIG", "SET", "maxmemory", "0", socket_timeout=ANSWER)
        master = self.master
        self._subordinate(next(node for node in self.nodes if node is not master), master)

    def _subordinate(self, replica: RedisServer, master: RedisServer) -> None:
        if master.call("ROLE", socket_timeout=ANSWER)[0] == "master":
            replica.call("REPLICAOF", "127.0.0.1", str(master.port), socket_timeout=ANSWER)

        def joined() -> bool:
            with contextlib.suppress(RedisError, OSError):
                role = replica.call("ROLE", socket_timeout=ANSWER)
                return bool(role[0] == "slave" and role[3] == "connected")
            return False

        self._until(joined, JOINED, "the replica copies the master")

    @staticmethod
    def _until(holds: Any, within: float, what: str) -> None:
        ends_at = time.monotonic() + within
        while not holds():
            if time.monotonic() > ends_at:
                raise TimeoutError(f"not in time: {what}")
            time.sleep(EVERY)


@contextlib.contextmanager
def redis_group(folder: Path) -> Iterator[RedisGroup]:
    """A master, its replica and their Sentinels."""
    group = RedisGroup(folder)
    try:
        group.start()
        yield group
    finally:
        group.stop()
