"""The state of the simulated engine: runs, steps, workers, tenants, pub/sub and the read model."""
