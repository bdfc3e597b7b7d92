"""Chaos: everything breaks, at random, and no loss may be unannounced.

world.py     what runs there are, and what is true of them
stories.py   one truth more for each replay
replicas.py  proxies side by side, and the network between them and Hatchet
faults.py    what breaks, when, by a seed
clients.py   who reads, and how badly
play.py      the whole, and the table at its end

The clock that jumps is Hatchet's and its workers'. The proxies' own cannot be moved from outside: streams
count monotonic seconds; the time of day counts only for how long credentials hold (`test_auth_http.py`).
"""
