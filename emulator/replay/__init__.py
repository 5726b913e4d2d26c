"""Replay: a scenario of inputs, played through the real functions under one clock and one source of chance."""
