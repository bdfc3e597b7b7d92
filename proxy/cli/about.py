"""The facts for a bug report: the machine and the versions of the libraries that may be at fault.

No configuration paths, no values of the environment and no host names, so it can be pasted anywhere.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import ssl
import sys
from typing import Final

from proxy import __version__

LIBRARIES: Final = (
    "hatchet-sdk", "grpcio", "protobuf", "hpack", "aiohttp",  # towards Hatchet
    "uvicorn", "starlette", "uvloop", "httptools",  # towards browsers
    "pydantic", "pyyaml", "jmespath", "orjson", "msgspec", "watchfiles",  # the YAML and its expressions
    "redis", "pyjwt", "cryptography", "prometheus-client", "structlog", "click", "rich",
)  # fmt: skip


def lines() -> list[str]:
    """Name and value, one per line, aligned."""
    facts = [("stream-proxy", __version__), *_machine(), *((name, _version(name)) for name in LIBRARIES)]
    width = max(len(name) for name, _ in facts)
    return [f"{name:<{width}}  {value}" for name, value in facts]


def _machine() -> list[tuple[str, str]]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libc = " ".join(part for part in platform.libc_ver() if part)
    return [
        ("python", f"{python}, {'in a venv' if sys.prefix != sys.base_prefix else 'not in a venv'}"),
        ("safe path", "yes" if sys.flags.safe_path else "no (set PYTHONSAFEPATH=1)"),
        ("platform", f"{platform.system()} {platform.release()} {platform.machine()} {libc}".rstrip()),
        ("cpus", f"{_cpus()} usable"),
        ("openssl", ssl.OPENSSL_VERSION),
        ("yaml loader", "libyaml" if importlib.util.find_spec("yaml._yaml") else "Python only: slow"),
    ]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
