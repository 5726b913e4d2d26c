"""The local cloud: official emulators, servers of our own, and the ports in memory."""
