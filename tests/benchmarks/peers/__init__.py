"""Other schedulers on the same commits: Buildbot, from the package index."""
