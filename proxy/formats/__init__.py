"""How messages become bytes: Server-Sent Events and chunked transfer coding."""
