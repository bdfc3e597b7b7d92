"""The log that replicas share: its verbs and entries; cursors, which are positions in a run's frames."""
