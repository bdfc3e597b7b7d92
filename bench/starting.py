"""How soon `serve` listens and how much memory it uses when idle; the time of `check` and `explain`.

The modules are compiled first, as in an installed package. Times are wall time and CPU time: on a machine
with other work, only the CPU time says something about the program.
"""

from __future__ import annotations

import base64
import compileall
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from machine import PYTHON, ROOT, SERVE, cpu, listening, process, rss
from table import Table

RULE = (
    "      - {{events: step_completed, steps: s{0}, when: 'payload.n > `{1}`', "
    "data: {{type: type, n: payload.n}}}}\n"
)
EVENT = '{"type": "step_started", "step": "s1"}'
CLAIMS = {
    "sub": "00000000-0000-4000-8000-000000000000",
    "server_url": "http://127.0.0.1:1",
    "grpc_broadcast_address": "127.0.0.1:1",
}
TOKEN = f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).decode().rstrip('=')}.x"
STREAM = "version: 1\nstreams:\n  s:\n    path: /s/{workflowRunId}\n    rules:\n"
GRPC = """
import sys
from proxy.cli.main import main, prepare
prepare()
try:
    main()
finally:
    print("grpc" in sys.modules, file=sys.stderr)
"""
COMMAND = "from proxy.cli.main import start; start()"

LIBRARIES = "import click, pydantic, pydantic.fields, pydantic.types"
"""What every command imports before the proxy's own modules: the lower bound."""


def single(folder: Path) -> Path:
    """One team, ten rules."""
    path = folder / "streams.yaml"
    rules = "".join(RULE.format(n, n) for n in range(10))
    path.write_text(
        STREAM.replace("version: 1", "version: 1\nhatchet: {token: '${HATCHET_CLIENT_TOKEN}'}") + rules
    )
    return path


def hundred(folder: Path) -> Path:
    """A hundred teams with fifty rules each, all different, so that nothing can be shared between them."""
    (folder / "many" / "teams").mkdir(parents=True)
    teams = "".join(
        f"  t{n}:\n    hatchet: {{token: '${{HATCHET_CLIENT_TOKEN}}'}}\n    auth: none\n" for n in range(100)
    )
    (folder / "many" / "proxy.yaml").write_text("version: 1\nteams:\n" + teams)
    for n in range(100):
        rules = "".join(RULE.format(number, 50 * n + number) for number in range(50))
        (folder / "many" / "teams" / f"t{n}.yaml").write_text(STREAM + rules)
    return folder / "many"


def start(repeat: int) -> Table:
    """Seconds until the listener is open or the command has ended; memory; whether gRPC was loaded."""
    columns = (
        ("cpu", "s of CPU", "{:.2f}"),
        ("wall", "s of wall time", "{:.2f}"),
        ("mb", "MB (RSS)", "{:.0f}"),
        ("grpc", "gRPC loaded", "{:.0f}"),
    )
    table = Table("Start", columns, "")
    for package in ("proxy", "config"):
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, many = single(folder), hundred(folder)
        env = {"HATCHET_CLIENT_TOKEN": TOKEN, "HATCHET_CLIENT_TLS_STRATEGY": "none"}
        for _ in range(repeat):
            table.add("serve, 10 rules", _serve(one, env, folder))
            table.add("serve, 100 teams × 50 rules", _serve(many, env, folder))
            table.add("python alone", _run(["-c", "pass"], env))
            table.add("python with click and pydantic", _run(["-c", LIBRARIES], env))
            table.add("check", _command(["check", str(one)], env))
            explain = ["explain", str(one), "--stream", "s", "--event", EVENT]
            table.add("explain", _command(explain, env))
    return table


def _serve(path: Path, env: dict[str, str], folder: Path) -> dict[str, float]:
    log = folder / "serve.log"
    began = time.monotonic()
    with process([SERVE, "serve", "--config", path, "--port", "0"], 0, env=env, log=log) as server:
        listening(server, log)
        wall, used = time.monotonic() - began, cpu(server.pid)
        time.sleep(1.0)
        maps = Path(f"/proc/{server.pid}/maps").read_text(encoding="utf-8")
        return {"cpu": used, "wall": wall, "mb": rss(server.pid), "grpc": "cygrpc" in maps}


def _command(arguments: list[str], env: dict[str, str]) -> dict[str, float]:
    """The figures of the command, which ends at once; another run says whether it loads gRPC."""
    grpc = _run(["-c", GRPC, *arguments], env)["grpc"]
    return {**_run(["-c", COMMAND, *arguments], env), "grpc": grpc}


def _run(arguments: list[str], env: dict[str, str]) -> dict[str, float]:
    began = time.monotonic()
    child = subprocess.Popen(
        [str(PYTHON), *arguments],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    errors = child.stderr.read()
    _, _, used = os.wait4(child.pid, 0)
    return {
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.monotonic() - began,
        "mb": used.ru_maxrss / 1024,
        "grpc": errors.strip().endswith("True"),
    }
