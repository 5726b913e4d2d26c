"""The ports in memory: for unit tests, simulations, and a local cloud on machines without Java."""
