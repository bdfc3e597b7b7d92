"""Everything that speaks Hatchet's protocols: client, endpoint, errors, and the codecs of gRPC and REST."""
