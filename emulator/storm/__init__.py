"""A deterministic storm: the real functions in memory, on a virtual clock, under faults drawn from one seed."""
