"""The process: listener, signals, the order of a drain, reload, assembly, garbage-collector policy."""
