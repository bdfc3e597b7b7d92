"""Delivers one run to many clients: backlog, channel, subscriber and session."""
