"""Follows one run at Hatchet: subscriptions, state reads, the bridge, the tap and the lookup by metadata."""
