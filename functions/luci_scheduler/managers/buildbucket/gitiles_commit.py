"""The commit of a v2 build. It has its own field in the request, so tags and properties that repeat it are removed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from luci_scheduler.core import go_json, log_lines
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.repo_url import BadRepoUrlError
from luci_scheduler.managers.buildbucket.build_request import Log

__all__ = ["GitilesCommit", "extract_commit"]

_BUILDSET = re.compile(r"commit/gitiles/([^/]+)/(.+?)/\+/([a-f0-9]+)")


@frozen
class GitilesCommit:
    """``buildbucket.v2.GitilesCommit``."""

    host: str
    project: str
    id: str
    ref: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the message as JSON, without empty fields."""
        fields = {"host": self.host, "project": self.project, "id": self.id, "ref": self.ref}
        return {name: value for name, value in fields.items() if value}


def extract_commit(
    triggers: Sequence[Mapping[str, Any]],
    tags: Sequence[tuple[str, str]],
    properties: dict[str, Any],
    log: Log,
    hosts: CommitHosts = DEFAULT_HOSTS,
) -> tuple[GitilesCommit | None, list[tuple[str, str]]]:
    """Return the build's commit, and the tags that do not describe it. Pop the properties that describe it.

    Raises:
        PermanentError: the last trigger is a commit whose repository URL is invalid.
    """
    from_trigger = _from_trigger(triggers, hosts)
    from_tags, left = _from_tags(tags, log)
    claimed = {name: _popped(properties, name) for name in ("repository", "branch", "revision")}
    claimed["branch"] = _full_ref(claimed["branch"])
    if from_tags is None:
        for name, value in claimed.items():
            if value:
                log(log_lines.PROPERTY_IGNORED.format(name=quote(name), value=quote(value)))
        return from_trigger, left
    _cross_check(claimed, from_tags, log, hosts)
    if from_trigger is None:
        log(log_lines.COMMIT_FROM_TAGS.format())
    elif from_trigger == from_tags:
        log(log_lines.COMMIT_POPPED.format())
    else:
        log(log_lines.COMMITS_DIFFER.format())
        log(log_lines.COMMIT_OF_TRIGGERS.format(commit=go_json.message(from_trigger.as_json())))
        log(log_lines.COMMIT_OF_PROPERTIES.format(commit=go_json.message(from_tags.as_json())))
        log(log_lines.COMMIT_OF_TAGS_USED.format())
    return from_tags, left


def _from_trigger(triggers: Sequence[Mapping[str, Any]], hosts: CommitHosts) -> GitilesCommit | None:
    if not triggers or "gitiles" not in triggers[-1]:
        return None
    payload = triggers[-1]["gitiles"]
    try:
        url = hosts.parse(payload.get("repo", ""))
    except BadRepoUrlError as error:
        raise PermanentError(f"bad repo URL {quote(payload.get('repo', ''))} in the trigger - {error}") from error
    return GitilesCommit(url.host, url.project, payload.get("revision", ""), payload.get("ref", ""))


def _from_tags(tags: Sequence[tuple[str, str]], log: Log) -> tuple[GitilesCommit | None, list[tuple[str, str]]]:
    ref, found, left = "", None, []
    for key, value in tags:
        tag = quote(f"{key}:{value}")
        if key == "gitiles_ref":
            if ref:
                log(log_lines.REF_TAG_EXTRA.format(ref=quote(ref)))
            ref = _full_ref(value)
        elif key != "buildset":
            left.append((key, value))
        elif (match := _BUILDSET.fullmatch(value)) is None:
            log(log_lines.BUILDSET_UNKNOWN.format(tag=tag))
        elif found is not None:
            log(log_lines.BUILDSET_EXTRA.format(tag=tag))
        else:
            log(log_lines.BUILDSET_POPPED.format(tag=tag))
            found = match
    if found is None:
        log(log_lines.REF_TAG_ALONE.format())
        return None, left
    return GitilesCommit(found[1], found[2], found[3], ref), left


def _cross_check(claimed: Mapping[str, str], commit: GitilesCommit, log: Log, hosts: CommitHosts) -> None:
    pairs = [("ref", claimed["branch"], commit.ref), ("commit", claimed["revision"], commit.id)]
    if claimed["repository"]:
        try:
            url = hosts.parse(claimed["repository"])
        except BadRepoUrlError:
            log(log_lines.PROPERTY_INVALID.format(name=quote("repository"), value=quote(claimed["repository"])))
        else:
            pairs = [("host", url.host, commit.host), ("project", url.project, commit.project), *pairs]
    for name, in_properties, in_tags in pairs:
        if in_properties and in_properties != in_tags:
            texts = {"in_properties": quote(in_properties), "in_tags": quote(in_tags)}
            log(log_lines.PROPERTY_DIFFERS.format(what=name, **texts))


def _popped(properties: dict[str, Any], name: str) -> str:
    value = properties.pop(name, "")
    return value if isinstance(value, str) else ""


def _full_ref(name: str) -> str:
    return name if not name or name.startswith("refs/") else f"refs/heads/{name}"
