"""Trials that break things on purpose and hold what happened against the guarantees; see run.py."""
