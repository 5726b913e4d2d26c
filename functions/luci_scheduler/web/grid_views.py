"""The rows and cells of a grid of commits by jobs, as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luci_scheduler.api.grid import Cell, Grid, GridQuery
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import JobId, split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.core.invocation import Status
from luci_scheduler.web.addresses import address, invocation_address
from luci_scheduler.web.presentation import ago, label_of

__all__ = ["STATES", "CellView", "RowView", "commit_row_json", "css_of", "row_view", "words_of"]

STATES = {
    "SUCCEEDED": ("ok", "succeeded"),
    "FAILED": ("fail", "failed"),
    "ABORTED": ("abort", "aborted"),
    "OVERRUN": ("over", "overran"),
    "STARTING": ("start", "starting"),
    "RETRYING": ("retry", "start is retried"),
    "RUNNING": ("run", "running"),
    "PENDING": ("wait", "waiting"),
    "FILTERED": ("skip", "filtered by path"),
    "DISCARDED": ("drop", "discarded"),
    "TAKEN": ("ran", "has an invocation whose result was not read"),
    "NONE": ("-", "not run"),
    "UNREAD": ("?", "not read"),
}
"""State → the text of a cell, and its words."""


@frozen
class CellView:
    """A cell of the grid."""

    text: str
    words: str
    """The whole meaning, for screen readers and people who point at the cell."""
    css: str
    address: str


@frozen
class RowView:
    """A commit and its cells, in the order of the columns."""

    short: str
    address: str
    subject: str
    author: str
    when: str
    at: str
    cells: Sequence[CellView]


def row_view(query: GridQuery, found: Grid, place: int, now: Instant) -> RowView:
    """Return the commit at a place with its cells, in the order of the columns."""
    commit = found.commits[place]
    explained = address("commits", repo=query.repo, revision=commit.id, ref=query.ref)
    return RowView(
        short=commit.id[:8],
        address=explained,
        subject=commit.subject,
        author=commit.author,
        when=ago(commit.committed, now),
        at=format_rfc3339(commit.committed),
        cells=[_cell(found.cells[(commit.id, job.id)], commit.id, job.id, explained) for job in found.jobs],
    )


def _cell(cell: Cell, revision: str, job_id: JobId, explained: str) -> CellView:
    text, words = words_of(cell.state)
    own = invocation_address(job_id, cell.invocation_id) if cell.invocation_id else explained
    return CellView(text, f"{split_job_id(job_id)[1]}, {revision[:8]}: {words}", css_of(cell.state), own)


def words_of(state: str) -> tuple[str, str]:
    """Return the text of a cell, and its words."""
    return STATES.get(state, (state.lower(), state.lower()))


def css_of(state: str) -> str:
    """Return the CSS class of a cell: the color of the result."""
    return label_of(Status(state)) if state in set(Status) else state.lower()


def commit_row_json(found: Grid, place: int) -> dict[str, Any]:
    """Return the JSON twin of the row at a place; its cells are in the order of the columns."""
    commit = found.commits[place]
    cells = [found.cells[(commit.id, job.id)] for job in found.jobs]
    return {
        "revision": commit.id,
        "subject": commit.subject,
        "author": commit.author,
        "committed": format_rfc3339(commit.committed),
        "cells": [[cell.state, str(cell.invocation_id) if cell.invocation_id else ""] for cell in cells],
    }
