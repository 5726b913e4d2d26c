"""The page of a commit: its outcome in each job that watches its repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.explanation import Explanation
from luci_scheduler.web.addresses import invocation_address, job_address
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import safe_url
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageResponse

__all__ = ["commit"]


@dataclass(frozen=True, slots=True)
class _Query:
    """The fields of the form; without repository and revision the page is only the form."""

    repo: str
    revision: str
    ref: str

    @property
    def is_asked(self) -> bool:
        """Whether the visitor has filled in the form."""
        return bool(self.repo or self.revision)


@dataclass(frozen=True, slots=True)
class _ExplanationView:
    """An explanation as the page shows it."""

    job_id: str
    job_address: str
    reason: str
    words: str
    """The reason as a sentence."""
    sentence: str
    invocation_id: str
    invocation_address: str
    """Empty if no invocation took the trigger, or if it is no longer stored."""
    waiting_for: Sequence[tuple[str, str]]
    """ID and address of the invocations that the trigger waits for."""


def commit(page_request: PageRequest) -> PageResponse:
    """Return the outcome of a commit in each job that watches it; without a commit, only the form."""
    query = _Query(*page_request.stripped("repo", "revision", "ref"))
    found, problem = _read(page_request, query)
    values = _values(query, found, problem)
    return render(page_request, "commit.html", _document(query, found, problem), values, 400 if problem else 200)


def _read(page_request: PageRequest, query: _Query) -> tuple[list[Explanation], str]:
    """Return explanations, or the reason why there can be none."""
    if not query.is_asked:
        return [], ""
    try:
        return explain_commit(page_request.context, query.repo, query.revision, query.ref), ""
    except ApiError as error:
        return [], error.message


def _document(query: _Query, found: Sequence[Explanation], problem: str) -> dict[str, Any]:
    document: dict[str, Any] = {"repo": query.repo, "revision": query.revision, "ref": query.ref}
    return {**document, "error": problem} if problem else {**document, "jobs": [_json(item) for item in found]}


def _json(item: Explanation) -> dict[str, Any]:
    return {
        "job_id": item.job_id,
        "reason": str(item.reason),
        "sentence": item.sentence,
        "origin": str(item.origin),
        "ref": item.ref,
        "status": item.status,
        "invocation_id": str(item.invocation_id) if item.invocation_id else "",
    }


def _values(query: _Query, found: Sequence[Explanation], problem: str) -> dict[str, Any]:
    is_explained = query.is_asked and not problem
    return {
        "explanations": [_explanation_view(item) for item in found],
        "problem": problem,
        "asked": query.is_asked,
        "url": safe_url(f"{query.repo.removesuffix('/')}/+/{query.revision}") if is_explained else "",
        "repo": query.repo,
        "revision": query.revision,
        "ref": query.ref,
    }


def _explanation_view(item: Explanation) -> _ExplanationView:
    is_stored = bool(item.invocation_id and item.status)
    return _ExplanationView(
        job_id=item.job_id,
        job_address=job_address(item.job_id),
        reason=str(item.reason),
        words=str(item.reason).replace("_", " ").capitalize(),
        sentence=item.sentence,
        invocation_id=str(item.invocation_id) if item.invocation_id else "",
        invocation_address=invocation_address(item.job_id, item.invocation_id) if is_stored else "",
        waiting_for=[(str(one), invocation_address(item.job_id, one)) for one in item.waiting_for],
    )
