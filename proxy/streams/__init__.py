"""Delivers one run to many clients: backlog, channel, dispatcher, subscriber and session."""
