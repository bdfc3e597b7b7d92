"""OpenTelemetry: spans and metrics by OTLP, configured by the standard ``OTEL_*`` variables alone."""
