"""Decides who may connect, from where, and how many: tokens, tickets, keys, origins, admission."""
