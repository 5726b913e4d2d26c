"""Documents of watchers: one for each repository and project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from luci_scheduler.adapters.documents.ids import plain_id
from luci_scheduler.adapters.documents.tolerant import decode_readable
from luci_scheduler.adapters.documents.values import SCHEMA, check_schema, stored_size, to_json
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.sizes import MAX_DOCUMENT_BYTES
from luci_scheduler.core.watcher import Watcher

__all__ = ["decode_watchers", "encode_paused", "encode_watchers"]

_MARK_BYTES = 17  # for the mark itself, in addition to the trigger's name


def encode_watchers(repo: str, project: str, watchers: tuple[Watcher, ...]) -> dict[str, Any]:
    """Return the fields to write into the document of one project's watchers. Marks of paused triggers are not touched.

    Raises:
        PermanentError: the document would be too large with all its triggers paused.
    """
    document = {"schema": SCHEMA, "watchers": to_json([_watcher_row(watcher) for watcher in watchers])}
    marks = sum(len(trigger.encode()) + _MARK_BYTES for trigger in {watcher.trigger_job_id for watcher in watchers})
    size = stored_size(document) + marks
    if size > MAX_DOCUMENT_BYTES:
        raise PermanentError(
            f"the watchers that project {project} has of {repo} would take {size} bytes, at most {MAX_DOCUMENT_BYTES} "
            "fit into their document: use fewer or shorter refs, patterns and targets"
        )
    return document


def encode_paused(trigger_job_id: JobId, *, paused: bool) -> dict[str, Any]:
    """Return the fields to merge into a watcher document when a gitiles trigger is paused or resumed.

    A mark is set to false and never removed, because it must override the mark in an older, shared document. The fields
    have no version, because the document may have watchers of a newer one.
    """
    return {"paused": {trigger_job_id: paused}}


def decode_watchers(named: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Watcher]:
    """Read the documents of a repository's watchers. An unreadable project is logged and left out.

    Older functions kept one document for all projects. Its watchers count for each project without its own document.
    Its marks count for each trigger that has not been paused or resumed since.

    Args:
        named: each document with its name.

    Raises:
        NewerVersionError: a newer function wrote a document. Without its watchers, a commit would reach too few jobs.
    """
    texts: dict[str, str] = {}
    paused: dict[str, bool] = {}
    for name, document in sorted(named, key=lambda pair: pair[0]):  # the older document sorts first
        check_schema(f"the document repositories/{name}", document)
        _, is_own, project = name.partition("!")
        own = {plain_id(project): document["watchers"]} if "watchers" in document else {}
        texts.update(own if is_own else document.get("projects", {}))
        paused.update(document.get("paused", {}))
    found = decode_readable(sorted(texts.items()), lambda pair: f"the watchers of project {pair[0]}", _rows_of)
    watchers = [watcher for of_project in found for watcher in of_project]
    return [replace(item, paused=True) if paused.get(item.trigger_job_id) else item for item in watchers]


def _watcher_row(watcher: Watcher) -> list[Any]:
    paths = [watcher.path_regexps, watcher.path_regexps_exclude]
    return [watcher.job_id, watcher.trigger_job_id, watcher.repo, watcher.refs, *(paths if any(paths) else ())]


def _rows_of(project_and_text: tuple[str, str]) -> list[Watcher]:
    """Read one project's rows. A row without path filters is shorter."""
    return [
        Watcher(JobId(job), JobId(trigger_job), repo, *(tuple(texts) for texts in lists[:3]))
        for job, trigger_job, repo, *lists in json.loads(project_and_text[1])
    ]
