"""The event log of a run and the cursors into it."""
