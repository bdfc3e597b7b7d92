"""What operators see: counters, Prometheus metrics, log lines and health."""
