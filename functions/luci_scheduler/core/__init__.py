"""The pure core: decisions and values without I/O, on the standard library only."""
