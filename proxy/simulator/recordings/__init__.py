"""Recordings of runs: the recorder and its client, the parser, and the replayer."""
