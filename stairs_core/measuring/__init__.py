"""Runs and measurements: a decoding and its trace, fair races, timed passes, comparing texts.

A baseline is measured here, never estimated. How results are shown is decided elsewhere.
"""
