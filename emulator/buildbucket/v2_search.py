"""SearchBuilds: the builds that match a predicate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from emulator.buildbucket.builders import Registry
from emulator.buildbucket.builds import Build, BuildStore
from emulator.buildbucket.validation import InvalidError

__all__ = ["search"]

_DEFAULT_PAGE, _MAX_PAGE = 100, 1000
_PAGE_TOKEN = re.compile(r"^id>(\d+)$")


def search(store: BuildStore, registry: Registry, request: Mapping[str, Any], caller: str) -> tuple[list[Build], str]:
    """Return one page of builds, newest first, and the token of the next page, which also follows a full last page.

    The page leaves out builds that the caller may not read.

    Raises:
        InvalidError: the request is malformed.
    """
    size = request.get("pageSize", 0)
    if size < 0:
        raise InvalidError("page_size cannot be negative")
    size = min(size or _DEFAULT_PAGE, _MAX_PAGE)
    after = _last_id(request["pageToken"]) if "pageToken" in request else 0
    filters = _filters(request.get("predicate", {}))
    found = (
        build
        for build in store.newest_first(after=after)
        if registry.may_read(build.spec.builder.bucket_name, caller) and all(fits(build) for fits in filters)
    )
    page = list(islice(found, size))
    return page, f"id>{page[-1].id}" if len(page) == size else ""


def _last_id(page_token: str) -> int:
    """Return the ID of the last build on the page before."""
    token = _PAGE_TOKEN.match(page_token)
    if token is None:
        raise InvalidError("invalid page_token")
    return int(token[1])


def _filters(predicate: Mapping[str, Any]) -> list[Callable[[Build], bool]]:
    filters = [_builder_filter(predicate.get("builder", {})), _experiments_filter(predicate), _range_filter(predicate)]
    status = predicate.get("status")
    if status == "ENDED_MASK":
        filters.append(lambda build: build.ended)
    elif status is not None:
        filters.append(lambda build: build.status == status)
    if tags := {(tag.get("key", ""), tag.get("value", "")) for tag in predicate.get("tags", [])}:
        filters.append(lambda build: tags <= set(build.spec.tags))
    if creator := predicate.get("createdBy"):
        identity = creator if ":" in creator else f"user:{creator}"
        filters.append(lambda build: build.spec.created_by == identity)
    filters.extend(_change_filter(change) for change in predicate.get("gerritChanges", []))
    if predicate.get("childOf") or predicate.get("descendantOf"):
        filters.append(lambda _build: False)  # no build of this server has a parent
    return filters


def _change_filter(change: Mapping[str, Any]) -> Callable[[Build], bool]:
    tag = ("buildset", f"patch/gerrit/{change.get('host')}/{change.get('change')}/{change.get('patchset')}")
    return lambda build: tag in build.spec.tags


def _builder_filter(builder: Mapping[str, Any]) -> Callable[[Build], bool]:
    if builder.get("builder") and not builder.get("bucket"):
        raise InvalidError("builder: bucket is required when builder is specified")
    if builder.get("bucket") and not builder.get("project"):
        raise InvalidError("builder: project is required when bucket is specified")
    return lambda build: build.spec.builder.to_json().items() >= builder.items()


def _experiments_filter(predicate: Mapping[str, Any]) -> Callable[[Build], bool]:
    """Return the filter of experiments; experimental builds match only on request."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for experiment in predicate.get("experiments", []):
        if experiment[:1] not in {"+", "-"}:
            raise InvalidError(f'experiment "{experiment}" must begin with + or -')
        (wanted if experiment[0] == "+" else unwanted).add(experiment[1:])
    if not predicate.get("includeExperimental") and "luci.non_production" not in wanted:
        unwanted.add("luci.non_production")

    def fits(build: Build) -> bool:
        active = set(build.spec.experiments) | ({"luci.non_production"} if build.spec.experimental else set())
        return wanted <= active and not unwanted & active

    return fits


def _range_filter(predicate: Mapping[str, Any]) -> Callable[[Build], bool]:
    times, builds = predicate.get("createTime"), predicate.get("build")
    if times and builds:
        raise InvalidError("predicate.build: only one of build and create_time is allowed")
    if builds:
        # IDs decrease over time, so a range extends from its larger to its smaller end.
        start, end = builds.get("startBuildId", 2**63), builds.get("endBuildId", 0)
        return lambda build: end <= build.id <= start
    start, end = (times or {}).get("startTime", 0), (times or {}).get("endTime", 2**63)
    return lambda build: start <= build.create_time < end
