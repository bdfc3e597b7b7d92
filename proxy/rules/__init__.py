"""Turns an event into a message or into nothing; sample events and the runner of the tests beside rules."""
