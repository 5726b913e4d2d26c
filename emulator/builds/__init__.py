"""Real builds in the local cloud: which command a builder runs, and on which files."""
