"""The proxy as its users run it, and the servers it is compared with: how each is started, fed and stopped.

A peer returns a `Serving`: where it listens, whose CPU and memory count, and the load generator's options.
Servers run on one core; the feed and the load generator run on the other.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from machine import (
    HERE,
    LOAD_CORE,
    PEER_PYTHON,
    PYTHON,
    SERVE,
    SERVER_CORE,
    connectable,
    first_line,
    free_port,
    listening,
    process,
)

from config.model.resolve import DEFAULT_TEAM
from proxy.access.tickets import Tickets

SUBSCRIPTIONS = 10_000
"""Runs that may have a subscription of their own: every run of every work. The default limit protects a real
engine; here it would only leave out most of the work that is measured."""

RULES = """    rules:
      - events: step_stream
        payload: json
        data: {n: payload.n, t: payload.t, type: type, text: payload.text}
"""


@dataclass(frozen=True)
class Need:
    """What a work needs from a peer."""

    clients: int = 1000
    runs: int = 1
    rate: float = 0.0  # events per second over all runs; 0: as fast as they arrive
    burst: int = 1
    window: int = 8
    payload: int = 130
    text: str = ""
    reading: int = 0  # how many of the clients read; 0: all
    heartbeat: int = 15
    rules: str = RULES
    streams: str = ""  # more settings of the proxy's stream, as YAML
    server: str = ""  # settings of the proxy's process, as YAML
    way: str = "engine"  # of drive.py, for the proxy
    teams: int = 1
    fed: bool = True


@dataclass(frozen=True)
class Serving:
    """A peer that listens; `options` are for the load generator."""

    pid: int
    options: dict[str, Any] = field(default_factory=dict)
    feed: subprocess.Popen[str] | None = None  # the process that feeds it


class Peer(Protocol):
    """A server of streams."""

    name: str

    def serve(self, need: Need) -> contextlib.AbstractContextManager[Serving]:
        """Start it, fed from another process; it is stopped when the body ends."""


def feed_command(way: str, need: Need, shm: Path, *more: str) -> list[str | Path]:
    numbers = {
        "--shm": shm,
        "--runs": need.runs,
        "--clients": need.reading or need.clients,
        "--rate": need.rate,
        "--window": need.window if need.fed else 0,
        "--burst": need.burst,
        "--payload": need.payload,
        "--text": need.text,
        "--tenants": need.teams,
    }
    options = [str(part) for pair in numbers.items() for part in pair]
    return [PYTHON, HERE / "drive.py", way, *options, *more]


class Ours:
    """`stream-proxy serve` with rules, ids, heartbeats, metrics and log; the engine is another process."""

    name = "stream-proxy"

    def __init__(self, otel: Mapping[str, str] | None = None) -> None:
        """`otel`: variables of OpenTelemetry for the proxy."""
        self._otel = dict(otel or {})

    @contextlib.contextmanager
    def serve(self, need: Need) -> Iterator[Serving]:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            shm, log = here / "shm", here / "feed.log"
            with process(feed_command(need.way, need, shm), LOAD_CORE, log=log, pipes=True) as feed:
                ready = first_line(feed, log)
                config, env = self._config(here, need, ready)
                env |= self._otel
                log = shm.parent / "logs" / "serve.log"  # the proxy watches its configuration's folder
                log.parent.mkdir()
                command = [SERVE, "serve", "--config", config, "--port", "0"]
                with process(command, SERVER_CORE, env=env, log=log) as server:
                    url = listening(server, log)["url"]
                    paths = here / "paths"
                    paths.write_text(
                        "".join(f"{self._path(n, run, need)}\n" for n, run in enumerate(ready["runs"]))
                    )
                    port = int(url.rstrip("/").rpartition(":")[2])
                    options = {"port": port, "pids": server.pid, "paths": paths, "shm": shm}
                    yield Serving(server.pid, options, feed)

    def _config(self, here: Path, need: Need, ready: dict[str, Any]) -> tuple[Path, dict[str, str]]:
        stream = f"streams:\n  chunks:\n    heartbeat: {need.heartbeat}s\n    path: /runs/{{workflowRunId}}\n"
        stream += need.streams + need.rules
        env = dict(ready["env"])
        if need.teams == 1:
            path = here / "streams.yaml"
            hatchet = f"hatchet: {{token: '${{HATCHET_CLIENT_TOKEN}}', subscriptions: {SUBSCRIPTIONS}}}\n"
            path.write_text("version: 1\n" + need.server + hatchet + stream)
            return path, env
        (here / "config" / "teams").mkdir(parents=True)
        lines = ["version: 1", "teams:"]
        for number, token in enumerate(ready["tokens"]):
            env[f"TOKEN_{number}"] = token
            hatchet = f"{{token: '${{TOKEN_{number}}}', subscriptions: {SUBSCRIPTIONS}}}"
            lines += [f"  t{number}:", f"    hatchet: {hatchet}", "    auth: none"]
            (here / "config" / "teams" / f"t{number}.yaml").write_text("version: 1\n" + stream)
        (here / "config" / "proxy.yaml").write_text("\n".join(lines) + "\n")
        return here / "config", env

    def _path(self, number: int, run: str, need: Need) -> str:
        return f"/runs/{run}" if need.teams == 1 else f"/t{number % need.teams}/runs/{run}"


class Traced:
    """`stream-proxy` with OpenTelemetry: every stream is a span, and metrics go out each second."""

    def __init__(self, name: str, *, away: bool = False, more: Mapping[str, str] | None = None) -> None:
        """`away`: nobody listens where the collector should be."""
        self.name = name
        self._away = away
        self._more = dict(more or {})

    @contextlib.contextmanager
    def serve(self, need: Need) -> Iterator[Serving]:
        port = free_port()
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        env = {**endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "1000", **self._more}
        with contextlib.ExitStack() as stack:
            if not self._away:
                log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sink.log"
                command = [PYTHON, HERE / "servers" / "otlp_sink.py", str(port)]
                sink = stack.enter_context(process(command, LOAD_CORE, log=log))
                connectable(port, sink, log)
            yield stack.enter_context(Ours(env).serve(need))


KEY = "a key of the benchmark, as long as it must be"
TICKETS = f"""auth:
  jwt: {{key: '{KEY}', algorithms: [HS256], audience: bench}}
  from: [ticket]
  tickets: {{key: '{KEY}'}}
"""
ALLOW = "    allow: claims.sub == 'somebody'\n"


class Ticketed(Ours):
    """`stream-proxy` that verifies a ticket for each client, and evaluates `allow`."""

    name = "with a ticket and allow"

    def _config(self, here: Path, need: Need, ready: dict[str, Any]) -> tuple[Path, dict[str, str]]:
        return super()._config(here, replace(need, server=TICKETS, streams=ALLOW), ready)

    def _path(self, number: int, run: str, need: Need) -> str:
        tickets = Tickets(KEY, team=DEFAULT_TEAM, lifetime=3600)
        claims = {"sub": "somebody"}
        ticket, _ = tickets.mint(claims, stream="chunks", run=run, named=frozenset({"sub"}), until=None)
        return f"{super()._path(number, run, need)}?ticket={ticket}"


class Nchan:
    """nginx with nchan; the load generator publishes over HTTP, as nchan requires."""

    name = "nchan"

    @contextlib.contextmanager
    def serve(self, need: Need) -> Iterator[Serving]:
        with tempfile.TemporaryDirectory() as folder:
            here, port = Path(folder), free_port()
            here.chmod(0o755)
            text = (HERE / "servers" / "nginx.conf").read_text()
            values = {"FOLDER": folder, "PORT": str(port), "HEARTBEAT": str(need.heartbeat)}
            for name, value in values.items():
                text = text.replace(name, value)
            (here / "nginx.conf").write_text(text)
            log = here / "nginx.log"
            with process(["nginx", "-p", folder, "-c", here / "nginx.conf"], SERVER_CORE, log=log) as server:
                connectable(port, server, log)
                options: dict[str, Any] = {"port": port, "pids": server.pid, "path": "/sse/%d"}
                if need.fed:
                    options |= {"pub": "nchan", "rate": need.rate, "payload": need.payload}
                    options |= {"window": need.window, "pubburst": need.burst}
                yield Serving(server.pid, options)


class Python:
    """A server in `servers/` that represents one approach in Python; fed with lines on a socket."""

    def __init__(self, name: str, file: str, python: Path = PEER_PYTHON) -> None:
        self.name = name
        self._file = HERE / "servers" / file
        self._python = python

    @contextlib.contextmanager
    def serve(self, need: Need) -> Iterator[Serving]:
        with tempfile.TemporaryDirectory() as folder:
            here, port, feed_port = Path(folder), free_port(), free_port()
            shm, log = here / "shm", here / "serve.log"
            command = [self._python, self._file, str(port), str(feed_port), str(need.heartbeat)]
            with process(command, SERVER_CORE, log=log) as server:
                connectable(feed_port, server, log)
                connectable(port, server, log)
                lines = feed_command("lines", need, shm, "--port", str(feed_port))
                feed_log = here / "feed.log"
                with process(lines, LOAD_CORE, log=feed_log, pipes=True) as feed:
                    first_line(feed, feed_log)
                    options = {"port": port, "pids": server.pid, "path": "/sse/%d", "shm": shm}
                    yield Serving(server.pid, options)


OURS = Ours()
TENTH = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
TRACED = (
    Traced("with OpenTelemetry"),
    Traced("a tenth of the streams sampled", more=TENTH),
    Traced("with its collector away", away=True),
)
TICKETED = Ticketed()
NCHAN = Nchan()
BARE = Python("bare uvloop", "bare.py")
TUTORIAL = Python("tutorial's way", "tutorial.py")
UVICORN = Python("uvicorn alone", "uvicorn_alone.py")
LOWER_BOUND = Python("the lower bound in Python", "lower_bound.py")
SSE_STARLETTE = Python("sse-starlette", "sse_starlette_way.py")
PEERS: tuple[Peer, ...] = (OURS, NCHAN, BARE, TUTORIAL, SSE_STARLETTE)
