"""Which signals the ``OTEL_*`` variables ask for; without OpenTelemetry's libraries, so that asking is free.

The standard names OTLP to localhost as the default exporter. Here a signal is on only where the environment
names an endpoint or the exporter, so that a proxy without any of these variables exports nothing.
The libraries read everything else (endpoints, headers, certificates, samplers, limits) from the same
environment. Source: OpenTelemetry's specification, "Environment Variable Specification", "OTLP Exporter".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
PROTOCOLS: Final = (HTTP, GRPC)
EXPORTERS: Final = ("otlp", "none")
TRACES: Final = "traces"
METRICS: Final = "metrics"


class Settings(Struct, frozen=True):
    """The protocol of each signal that is on, and what the variables say that has no effect here."""

    protocols: Mapping[str, str]
    problems: tuple[str, ...] = ()


def read_settings(env: Mapping[str, str]) -> Settings:
    """The settings in `env`; an empty variable counts as unset, as the specification says."""
    if _read(env, "OTEL_SDK_DISABLED").lower() == "true":
        return Settings({})
    protocols: dict[str, str] = {}
    problems: list[str] = []
    for signal in (TRACES, METRICS):
        if not _is_on(env, signal, problems):
            continue
        protocol = _protocol(env, signal, problems)
        if protocol == HTTP and (wrong := _no_url(env, signal)):
            problems.append(f"{wrong} is no URL; write it like http://collector:4318")
        else:
            protocols[signal] = protocol
    return Settings(protocols, tuple(problems))


def milliseconds(env: Mapping[str, str], name: str, default: int) -> float:
    """The seconds in a variable that has milliseconds; `default` where it has no positive number."""
    return number(env, name, default) / 1000


def number(env: Mapping[str, str], name: str, default: int) -> int:
    """The positive number in a variable, or `default`."""
    text = _read(env, name)
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _is_on(env: Mapping[str, str], signal: str, problems: list[str]) -> bool:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = [each.strip().lower() for each in _read(env, name).split(",") if each.strip()]
    problems += [
        f"{name}={each} is not known here; known are {', '.join(EXPORTERS)}"
        for each in exporters
        if each not in EXPORTERS
    ]
    if exporters:
        return "otlp" in exporters
    return any(_read(env, each) for each in _names(signal, "ENDPOINT"))


def _protocol(env: Mapping[str, str], signal: str, problems: list[str]) -> str:
    for name in _names(signal, "PROTOCOL"):
        text = _read(env, name)
        if text in PROTOCOLS:
            return text
        if text:
            problems.append(f"{name}={text} is not known here; known are {', '.join(PROTOCOLS)}")
            break
    return HTTP


def _no_url(env: Mapping[str, str], signal: str) -> str:
    """The variable with an endpoint that is no URL of HTTP, or nothing."""
    name = next((each for each in _names(signal, "ENDPOINT") if _read(env, each)), "")
    text = _read(env, name)
    try:
        parts = urlsplit(text)
        usable = not name or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, or too large
        usable = False
    return "" if usable else f"{name}={'…' if '@' in text else text}"  # before an @ may stand a password


def _names(signal: str, what: str) -> tuple[str, str]:
    """The variable of one signal, which counts first, and that of all signals."""
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"


def _read(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip()
