"""The outside world: Google Cloud clients and HTTP clients that implement the protocols of ``ports``."""
