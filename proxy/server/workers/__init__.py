"""Several worker processes on one address: ``stream-proxy serve --workers N``.

    Supervisor (parent) ── forks ──▶ worker 0 … N-1, each a whole proxy with its own loop

Each worker accepts connections on the address. A request belongs to the worker that its run names
(`placement`), so that a client which reconnects finds its cursor, and a run is followed once. A worker that
reads another one's request passes the connection on, with what it read (`mesh`). Worker 0 answers probes and
metrics for all (`vitals`).
"""
