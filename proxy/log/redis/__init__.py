"""The shared log on Redis or Valkey: streams and plain commands, no scripts."""
