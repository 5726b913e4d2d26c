"""A Gitiles server for the local cloud, over real git repositories."""

from emulator.gitiles.faults import GitilesFault, RequestRecord
from emulator.gitiles.repository import Entry, Person, Repository
from emulator.gitiles.server import GitilesServer

__all__ = ["Entry", "GitilesFault", "GitilesServer", "Person", "Repository", "RequestRecord"]
