"""Follows one run at Hatchet: subscriptions, state reads, the team's tap and the lookup by metadata."""
