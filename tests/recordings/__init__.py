"""Recordings of a real engine, and the tests that play them."""
