"""The storm: tests a local cloud under repeated and lost messages and killed processes."""
