"""LUCI Scheduler as event-driven functions."""
