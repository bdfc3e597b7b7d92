"""Several runs as one stream: which runs belong to it, their order, and the session that has their items."""
