"""Tests of proxy.observability.otel."""
