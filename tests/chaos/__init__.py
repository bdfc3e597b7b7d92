"""Chaos: everything breaks, at random, and no loss may be unannounced.

world.py        the workflows, and the truth of each run
generations.py  a run's truth before and after each replay
replicas.py     proxies side by side, and the network between them and Hatchet
faults.py       what breaks, when, by a seed
log_faults.py   what breaks where replicas share a log on Redis: leaders, failovers, Redis itself
clients.py      the clients, and how they read
cursors.py      whether each cursor led all clients to the same frame
play.py         one chaos run, and the table of its results

The clock that jumps is Hatchet's and its workers'. The proxies' own cannot be moved from outside: streams
count monotonic seconds; the time of day counts only for how long credentials hold (`test_auth_http.py`).
"""
