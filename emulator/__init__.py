"""The local cloud: official emulators, the project's own servers, and ports in memory."""
