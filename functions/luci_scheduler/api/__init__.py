"""The Scheduler API."""
