"""Which signals the ``OTEL_*`` variables switch on, and what is said of values that are not known."""

from __future__ import annotations

import pytest

from proxy.observability.counters import Counters
from proxy.observability.event_log import EventLog
from proxy.observability.otel.settings import milliseconds, number, read_settings
from proxy.observability.otel.telemetry import open_telemetry

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
HTTP, GRPC = "http/protobuf", "grpc"


@pytest.mark.parametrize(
    ("env", "protocols"),
    [
        ({}, {}),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, {}),
        (ENDPOINT, {"traces": HTTP, "metrics": HTTP}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, {}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, {}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "no"}, {"traces": HTTP, "metrics": HTTP}),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, {"traces": HTTP}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics": HTTP}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, {"traces": HTTP}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"traces": GRPC, "metrics": GRPC}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, {"traces": GRPC, "metrics": HTTP}),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, {"traces": HTTP}),
    ],
)
def test_a_signal_is_on_where_an_endpoint_or_its_exporter_is_named(
    env: dict[str, str], protocols: dict[str, str]
) -> None:
    assert read_settings(env).protocols == protocols


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin is not known here"),
        (
            {**ENDPOINT, "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/json is not known here",
        ),
    ],
)
def test_a_value_that_is_not_known_is_named(env: dict[str, str], problem: str) -> None:
    (found,) = read_settings(env).problems
    assert problem in found
    assert "known are" in found


@pytest.mark.parametrize(
    "text", ["collector:4318", "collector", "::::", "ftp://a", "http://", "http://a:99999"]
)
def test_an_endpoint_that_is_no_url_switches_its_signals_off_and_is_named(text: str) -> None:
    found = read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": text})
    assert found.protocols == {}
    assert (
        found.problems[0]
        == f"OTEL_EXPORTER_OTLP_ENDPOINT={text} is no URL; write it like http://collector:4318"
    )
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": GRPC}
    assert read_settings(grpc).protocols == {"traces": GRPC, "metrics": GRPC}


def test_numbers_that_are_none_count_as_unset() -> None:
    for text in ("", "-1", "0", "ten", "1.5"):
        assert number({"A": text}, "A", 7) == 7
    assert milliseconds({"A": "250"}, "A", 1000) == 0.25


def test_what_cannot_be_had_is_a_line_in_the_log_and_no_exception() -> None:
    lines: list[tuple[str, str]] = []
    log = EventLog(lambda level, event, fields: lines.append((event, fields["why"])))
    counters = Counters()
    assert open_telemetry({"OTEL_TRACES_EXPORTER": "zipkin"}, counters, log) is None
    ((event, why),) = lines
    assert event == "no telemetry"
    assert "zipkin" in why
    assert counters.telemetry == {}
