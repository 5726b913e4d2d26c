"""The outside world: Google Cloud clients and HTTP, behind the protocols of ``ports``."""
