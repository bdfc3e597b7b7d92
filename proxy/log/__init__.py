"""Cursors: positions in a run's frames, and message frames with their cursors."""
