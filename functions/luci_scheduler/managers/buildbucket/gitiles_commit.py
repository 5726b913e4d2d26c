"""The commit of a v2 build. It has its own field in the request, so tags and properties that repeat it are removed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.core import go_json
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.go_text import quote
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.managers.buildbucket.build_request import Log

__all__ = ["GitilesCommit", "extract_commit"]

_BUILDSET = re.compile(r"commit/gitiles/([^/]+)/(.+?)/\+/([a-f0-9]+)")


@dataclass(frozen=True, slots=True)
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
    triggers: Sequence[Mapping[str, Any]], tags: Sequence[tuple[str, str]], properties: dict[str, Any], log: Log
) -> tuple[GitilesCommit | None, list[tuple[str, str]]]:
    """Return the build's commit, and the tags that do not describe it. Pop the properties that describe it.

    Raises:
        PermanentError: the last trigger is a commit whose repository URL is invalid.
    """
    from_trigger = _from_trigger(triggers)
    from_tags, left = _from_tags(tags, log)
    claimed = {name: _popped(properties, name) for name in ("repository", "branch", "revision")}
    claimed["branch"] = _full_ref(claimed["branch"])
    if from_tags is None:
        for name, value in claimed.items():
            if value:
                log(f"No buildset tag present, ignoring property {quote(name)}: {quote(value)}")
        return from_trigger, left
    _cross_check(claimed, from_tags, log)
    if from_trigger is None:
        log("Reconstructed gitiles commit from tags")
    elif from_trigger == from_tags:
        log("Popped gitiles commit info from properties and tags")
    else:
        log("crbug.com/1182002: Gitiles commit from triggers doesn't match the one from tags")
        log(f"From triggers:\n{go_json.message(from_trigger.as_json())}")
        log(f"From properties:\n{go_json.message(from_tags.as_json())}")
        log("Using the one from tags")
    return from_tags, left


def _from_trigger(triggers: Sequence[Mapping[str, Any]]) -> GitilesCommit | None:
    if not triggers or "gitiles" not in triggers[-1]:
        return None
    payload = triggers[-1]["gitiles"]
    try:
        url = parse_repo_url(payload.get("repo", ""))
    except BadRepoUrlError as error:
        raise PermanentError(f"bad repo URL {quote(payload.get('repo', ''))} in the trigger - {error}") from error
    return GitilesCommit(url.host, url.project, payload.get("revision", ""), payload.get("ref", ""))


def _from_tags(tags: Sequence[tuple[str, str]], log: Log) -> tuple[GitilesCommit | None, list[tuple[str, str]]]:
    ref, found, left = "", None, []
    for key, value in tags:
        tag = quote(f"{key}:{value}")
        if key == "gitiles_ref":
            if ref:
                log(f"Ignoring extra gitiles_ref {quote(ref)}")
            ref = _full_ref(value)
        elif key != "buildset":
            left.append((key, value))
        elif (match := _BUILDSET.fullmatch(value)) is None:
            log(f"Ignoring unrecognized buildset tag {tag}")
        elif found is not None:
            log(f"Ignoring extra buildset tag {tag}")
        else:
            log(f"Popped buildset tag {tag}")
            found = match
    if found is None:
        log("Ignoring gitiles_ref tag without the buildset tag")
        return None, left
    return GitilesCommit(found[1], found[2], found[3], ref), left


def _cross_check(claimed: Mapping[str, str], commit: GitilesCommit, log: Log) -> None:
    pairs = [("ref", claimed["branch"], commit.ref), ("commit", claimed["revision"], commit.id)]
    if claimed["repository"]:
        try:
            url = parse_repo_url(claimed["repository"])
        except BadRepoUrlError:
            log(f"Ignoring invalid property {quote('repository')}: {quote(claimed['repository'])}")
        else:
            pairs = [("host", url.host, commit.host), ("project", url.project, commit.project), *pairs]
    for name, in_properties, in_tags in pairs:
        if in_properties and in_properties != in_tags:
            log(f"Git {name} in properties {quote(in_properties)} doesn't match the one in tags {quote(in_tags)}")


def _popped(properties: dict[str, Any], name: str) -> str:
    value = properties.pop(name, "")
    return value if isinstance(value, str) else ""


def _full_ref(name: str) -> str:
    return name if not name or name.startswith("refs/") else f"refs/heads/{name}"
