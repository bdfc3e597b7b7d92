"""Turns HTTP requests into sessions and responses."""
