"""The two gRPC transports to Hatchet: grpcio, and a lean HTTP/2 client on asyncio."""
