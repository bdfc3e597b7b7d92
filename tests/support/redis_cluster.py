"""A Redis Cluster for tests: masters on loopback, and replicas of the first ones."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.processes import free_port
from tests.support.redis_server import RedisServer

SLOTS: Final = 16384
BUS: Final = 10_000  # the port of the cluster's bus is that much higher
NODE_TIMEOUT: Final = "1000"  # milliseconds after which a server is taken for dead
WITHIN: Final = 30.0  # seconds for the servers to find each other


class RedisCluster:
    """`masters` with an equal part of the slots each; the first `replicas` of them have a replica."""

    def __init__(self, folder: Path, masters: int = 3, replicas: int = 0, **settings: str) -> None:
        self.servers: list[RedisServer] = []
        for number in range(masters + replicas):
            own = {
                "cluster-enabled": "yes",
                "cluster-config-file": str(folder / f"nodes-{number}.conf"),
                "cluster-node-timeout": NODE_TIMEOUT,
                "cluster-replica-validity-factor": "0",
                "repl-diskless-sync-delay": "0",
                **{name.replace("_", "-"): value for name, value in settings.items()},
            }
            self.servers.append(RedisServer(folder, own, port=_port_with_bus()))
        self.masters, self.replicas = self.servers[:masters], self.servers[masters:]
        self.url = self.url_of(*self.servers)

    def url_of(self, *servers: RedisServer) -> str:
        """The URL that names some of the servers."""
        return f"redis://{','.join(f'127.0.0.1:{server.port}' for server in servers)}"

    def start(self) -> None:
        """Start all servers, and wait until they are a cluster."""
        for server in self.servers:
            server.start()
        first, share = self.masters[0], -(-SLOTS // len(self.masters))
        for number, server in enumerate(self.servers):
            server.call("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if server is not first:
                first.call("CLUSTER", "MEET", "127.0.0.1", str(server.port))
        for number, server in enumerate(self.masters):
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            server.call("CLUSTER", "ADDSLOTS", *map(str, slots))
        self._wait(lambda server: f"cluster_known_nodes:{len(self.servers)}" in info(server))
        for server, master in zip(self.replicas, self.masters, strict=False):
            server.call("CLUSTER", "REPLICATE", node_id(master))
        self._wait(lambda server: "cluster_state:ok" in info(server))
        for server in self.replicas:
            wait_for(partial(_has_copied, server))
        sees_all = len(self.replicas)
        self._wait(lambda server: server.call("CLUSTER", "NODES").count("slave ") == sees_all)

    def _wait(self, is_so: Any) -> None:
        for server in self.servers:
            wait_for(partial(is_so, server))

    def call(self, *words: str) -> list[Any]:
        """The answers of all masters to one command."""
        return [server.call(*words) for server in self.masters]

    def kill(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.kill()

    def owner(self, key: str) -> RedisServer:
        """The server that has a key's slot."""
        slot = self.masters[0].call("CLUSTER", "KEYSLOT", key)
        for first, last, (_, port, *_), *_ in self.masters[0].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody has slot {slot}")


def info(server: RedisServer) -> str:
    """What a server says about its cluster."""
    return str(server.call("CLUSTER", "INFO"))


def node_id(server: RedisServer) -> str:
    """By what name the others know a server."""
    return str(server.call("CLUSTER", "MYID"))


def _has_copied(replica: RedisServer) -> bool:
    return bool(replica.call("ROLE")[3] == "connected")


def wait_for(is_so: Callable[[], object]) -> None:
    """Wait until servers have found each other."""
    ends_at = time.monotonic() + WITHIN
    while not is_so():
        assert time.monotonic() < ends_at, "the servers do not find each other"
        time.sleep(0.02)


def _port_with_bus() -> int:
    """A free port whose bus has a free one too."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as bus:
            bus.bind(("127.0.0.1", port + BUS))
            return port


@contextlib.contextmanager
def redis_cluster(folder: Path, masters: int = 3, replicas: int = 0) -> Iterator[RedisCluster]:
    """A cluster that is ready."""
    cluster = RedisCluster(folder, masters, replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
