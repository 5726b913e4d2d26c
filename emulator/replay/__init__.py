"""Replay: a scenario of inputs, played through the real functions with one clock and one source of entropy."""
