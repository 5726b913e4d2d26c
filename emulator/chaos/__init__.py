"""Chaos: tests a local cloud of real processes under repeated and lost messages and killed functions."""
