"""Chaos: everything breaks, at random, and nothing may be lost unsaid.

world.py     what runs there are, and what is true of them
faults.py    what breaks, when, by a seed
clients.py   who reads, and how badly
play.py      the whole, and the table at its end
"""
