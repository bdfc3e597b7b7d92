"""Everything that speaks to Hatchet: client, endpoint, errors, protobuf and REST codecs."""
