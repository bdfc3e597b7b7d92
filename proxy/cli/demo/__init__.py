"""The demo's page: plain files, and the few routes that serve them and trigger runs."""
