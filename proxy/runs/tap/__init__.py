"""The tap: one subscription for all runs of a team, kept open and probed while it is silent."""
