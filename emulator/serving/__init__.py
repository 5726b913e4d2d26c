"""Code that the HTTP servers of the local cloud share: the server itself, faults, request logs, control endpoints."""
