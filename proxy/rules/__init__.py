"""Turns an event into a message, or into nothing; also sample events and the runner for rule tests."""
