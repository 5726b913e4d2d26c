"""Gitiles jobs: they poll a repository and emit a trigger for each new commit."""
