"""The process: listener, reload and garbage-collector policy."""
