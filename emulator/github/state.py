"""The state of the GitHub server that tests read and change, apart from its repositories."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from emulator.clock import Clock, RealClock
from emulator.github.deliveries import Deliveries, Delivery
from emulator.github.faults import GitHubFaults
from emulator.github.limits import Meter, RateLimits
from emulator.github.statuses import CommitStatus, Statuses
from emulator.github.tokens import Tokens
from emulator.gitiles.smart_http import Limits
from emulator.gitiles.state import Surroundings
from emulator.serving.emulated_server import ServerState

__all__ = ["GitHubRequest", "GitHubState", "GitHubSurroundings"]


@dataclass(slots=True)
class GitHubSurroundings(Surroundings):
    """The local cloud around the server. A server alone has none of it."""

    status: Callable[[CommitStatus], None] = lambda _: None
    """Gets each status that a client has set, before the client gets its answer."""
    delivered: Callable[[Delivery], None] = lambda _: None
    """Gets each webhook with its outcome, in the thread that delivers."""


@dataclass(frozen=True, slots=True)
class GitHubRequest:
    """A request of the API or of a page in the log, with its response. It holds no token.

    Attributes:
        method: the HTTP method.
        path: the path.
        query: the query string.
        caller: the name of the sender in rate limits; ``127.0.0.1`` without a token.
        body: the request's body.
        status: the HTTP status; 0 if the connection was cut.
        is_counted: whether it counted against the hourly quota.
        answer: the response's body; empty if the connection was cut, and for a new token.
    """

    method: str
    path: str
    query: str
    caller: str
    body: str
    status: int
    is_counted: bool
    answer: str


@dataclass(slots=True)
class GitHubState(ServerState[GitHubFaults, GitHubRequest]):
    """Faults, request log, quotas, tokens, statuses and webhooks of a GitHub server.

    Attributes:
        faults: the faults.
        clock: the server's time.
        entropy: makes tokens and IDs of deliveries.
        rates: the rate limits.
        refs_per_page: how many refs one answer lists; 0 lists all, as GitHub mostly does.
        around: the local cloud around the server.
        limits: the limits of ``git clone``, ``git fetch`` and ``git push``.
        statuses: the commit statuses.
        meter: counts requests.
        tokens: the tokens.
        deliveries: the webhooks.
    """

    faults: GitHubFaults = field(default_factory=GitHubFaults)
    clock: Clock = field(default_factory=RealClock)
    entropy: random.Random = field(default_factory=random.Random)
    rates: RateLimits = field(default_factory=RateLimits)
    refs_per_page: int = 0
    around: GitHubSurroundings = field(default_factory=GitHubSurroundings)
    limits: Limits = field(default_factory=Limits)
    statuses: Statuses = field(default_factory=Statuses)
    meter: Meter = field(init=False)
    tokens: Tokens = field(init=False)
    deliveries: Deliveries = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.clock, self.rates)
        self.tokens = Tokens(self.clock, self.entropy)
        self.deliveries = Deliveries(self.entropy, self._delivered)

    def _delivered(self, delivery: Delivery) -> None:
        self.around.delivered(delivery)
