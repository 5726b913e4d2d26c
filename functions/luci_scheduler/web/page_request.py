"""A request for a page: the caller, the query and the form secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from luci_scheduler.api.context import Context
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.instants import Instant

__all__ = ["PageRequest"]


@frozen
class PageRequest:
    """A GET of a page or a POST of one of its forms."""

    context: Context
    secrets: tuple[str, ...] = field(repr=False)
    """The secrets that sign form tokens; the first one signs new tokens."""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def as_json(self) -> bool:
        """Whether the visitor wants the page's JSON twin."""
        return self.query.get("format") == "json"

    @property
    def who(self) -> str:
        """The caller's e-mail address; empty if the caller is not signed in."""
        kind, _, value = self.context.caller.partition(":")
        return value if kind == "user" else ""

    def now(self) -> Instant:
        """Return the current time."""
        return self.context.runtime.clock.now()

    def fresh_key(self) -> str:
        """Return a new idempotency key for a form.

        A form that is sent twice has one effect. A page that is loaded again has forms with new keys.
        """
        return f"web-{self.context.runtime.entropy.nonce():016x}"

    def stripped(self, *names: str) -> tuple[str, ...]:
        """Return the query values with these names without surrounding blanks; a missing value is empty."""
        return tuple(self.query.get(name, "").strip() for name in names)
