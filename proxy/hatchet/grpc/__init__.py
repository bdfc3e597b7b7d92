"""The two gRPC transports to Hatchet: the proxy's own HTTP/2 client on asyncio, and grpcio."""
