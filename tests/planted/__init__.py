"""Planted bugs: a catalog of small faults, and a command that plants one at a time and looks which test notices it."""
