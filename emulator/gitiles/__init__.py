"""A Gitiles server for the local cloud, over real git repositories."""

from emulator.gitiles.faults import GitilesFault
from emulator.gitiles.repository import Entry, Person, Repository
from emulator.gitiles.server import GitilesServer
from emulator.gitiles.state import GitilesRequest

__all__ = ["Entry", "GitilesFault", "GitilesRequest", "GitilesServer", "Person", "Repository"]
