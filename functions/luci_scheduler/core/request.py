"""Requests: the input of one invocation, derived from the triggers that it consumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.era import Era
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.kv_lists import check_kv_list
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.core.trigger import PayloadKind, Trigger

__all__ = ["Request", "request_from_triggers"]


@frozen
class Request:
    """The input of one invocation."""

    incoming_triggers: tuple[Trigger, ...] = ()
    properties: Mapping[str, Any] | None = None
    tags: tuple[str, ...] = ()
    triggered_by: str = ""
    log_lines: tuple[str, ...] = ()
    """Lines of the block that precedes the invocation's own debug log."""

    def stored_tags(self) -> tuple[str, ...]:
        """Return the tags as an invocation stores and sends them: sorted by their bytes.

        Raises:
            PermanentError: a tag is not ``key:value``.
        """
        check_kv_list("tag", self.tags)
        return tuple(sorted(self.tags, key=str.encode))


def request_from_triggers(triggers: Sequence[Trigger], era: Era, hosts: CommitHosts = DEFAULT_HOSTS) -> Request:
    """Derive the request of a batch from its latest trigger, the last of ``triggers`` (oldest first, not empty)."""
    properties, tags, lines = _from_trigger(triggers[-1], era, hosts)
    # A batch has a single author only if all its triggers have the same one.
    users = {trigger.emitted_by_user for trigger in triggers}
    return Request(
        incoming_triggers=tuple(triggers),
        properties=properties,
        tags=tags,
        triggered_by=users.pop() if len(users) == 1 else "",
        log_lines=lines,
    )


def _from_trigger(
    trigger: Trigger, era: Era, hosts: CommitHosts
) -> tuple[Mapping[str, Any] | None, tuple[str, ...], tuple[str, ...]]:
    match trigger.kind:
        case PayloadKind.CRON | PayloadKind.WEBUI:
            return None, (), ()
        case PayloadKind.NOOP:
            return {"noop_trigger_data": trigger.payload.get("data", "")}, (), ()
        case PayloadKind.BUILDBUCKET:
            return trigger.payload.get("properties"), tuple(trigger.payload.get("tags") or ()), ()
        case PayloadKind.GITILES:
            return _from_gitiles(trigger.payload, era, hosts)
        case _:
            # The original prints a Go type here. Only the type of a missing payload can occur.
            return None, (), ("Unrecognized trigger payload of type <nil>, ignoring",)


def _from_gitiles(
    payload: Mapping[str, Any], era: Era, hosts: CommitHosts
) -> tuple[Mapping[str, Any] | None, tuple[str, ...], tuple[str, ...]]:
    repo, ref, revision = payload["repo"], payload["ref"], payload["revision"]
    try:
        url = hosts.parse(repo)
    except BadRepoUrlError as error:
        return None, (), (f"Bad repo URL {quote(repo)} in the trigger - {error}",)
    # The commit's own properties win over an emitter's properties.
    properties = {**(payload.get("properties") or {}), "revision": revision, "branch": ref, "repository": repo}
    tags = [f"buildset:commit/gitiles/{url.host}/{url.project}/+/{revision}"]
    if era is Era.V1:
        tags.append(f"buildset:commit/git/{revision}")
    tags += [f"gitiles_ref:{ref}", *(payload.get("tags") or ())]
    # As in the original, a repeated tag is dropped, and the others keep their order.
    return properties, tuple(dict.fromkeys(tags)), ()
