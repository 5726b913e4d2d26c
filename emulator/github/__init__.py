"""A GitHub server for the local cloud, over real git repositories."""

from emulator.github.deliveries import Delivery, Webhook
from emulator.github.faults import GitHubFault
from emulator.github.limits import RateLimits
from emulator.github.server import GitHubServer
from emulator.github.state import GitHubRequest
from emulator.github.statuses import CommitStatus

__all__ = ["CommitStatus", "Delivery", "GitHubFault", "GitHubRequest", "GitHubServer", "RateLimits", "Webhook"]
