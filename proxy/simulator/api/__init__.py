"""The interfaces of the simulated engine: gRPC, REST, and the subscriptions that they serve."""
