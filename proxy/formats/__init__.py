"""How messages become bytes: Server-Sent Events, the protocols of chat front ends, chunked coding."""
