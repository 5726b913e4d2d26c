"""The page of a commit: its outcome in each job that watches its repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from luci_scheduler.api.errors import ApiError, HostUnavailableError
from luci_scheduler.api.explain import explain_commit
from luci_scheduler.api.explain_paths import MAX_FILES, changed_files
from luci_scheduler.api.explanation import CommitFacts, ExplainedCommit, Explanation, Origin, Reason
from luci_scheduler.api.only_choice import only_repo
from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.humanized import exact_duration
from luci_scheduler.core.identifiers import split_job_id
from luci_scheduler.core.instants import Instant, format_rfc3339
from luci_scheduler.web.addresses import address, invocation_address, job_address
from luci_scheduler.web.outcomes import Outcome, css_of, outcome_of, words_of
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.presentation import ago, safe_url, shown
from luci_scheduler.web.rendering import render
from luci_scheduler.web.response import PageResponse

__all__ = ["commit"]

_REQUESTED = {Origin.RERUN: "run again", Origin.BACKFILL: "backfilled", Origin.EMITTED: "emitted"}
_Link = tuple[str, str]  # text and address


@frozen
class _Query:
    """The fields of the form; without repository and revision the page is only the form."""

    repo: str
    revision: str
    ref: str
    show: str
    """The group of outcomes to show; any other text: all of them."""

    @property
    def is_asked(self) -> bool:
        """Whether the visitor has filled in the form."""
        return bool(self.repo or self.revision)

    def address(self, show: str = "") -> str:
        """Return the address of the same page with another group of outcomes."""
        return address("commits", repo=self.repo, revision=self.revision, ref=self.ref, show=show)


@frozen
class _Row:
    """An explanation as the page shows it."""

    outcome: Outcome
    words: str
    css: str
    project: str
    job: str
    job_address: str
    origin: str
    """For a requested trigger, how and by whom; empty for the commit itself."""
    sentence: str
    duration: str
    links: Sequence[_Link]


def commit(page_request: PageRequest) -> PageResponse:
    """Return the outcome of a commit in each job that watches it; without a commit, only the form."""
    query = _Query(*page_request.stripped("repo", "revision", "ref", "show"))
    found, problem, status = ExplainedCommit(CommitFacts("")), "", 200
    if query.is_asked:
        try:
            given = query.repo
            query = replace(query, repo=given or only_repo(page_request.context))
            found = explain_commit(page_request.context, query.repo, query.revision, query.ref)
            query = replace(query, repo=given or found.repo or query.repo)
        except ApiError as error:
            problem, status = error.message, 400
        except HostUnavailableError as error:
            problem, status = str(error), 503
    counts = Counter(outcome_of(item) for item in found.explanations)
    values = _values(query, found, problem, counts, page_request)
    return render(page_request, "commit.html", _document(query, found, problem, counts), values, status)


def _document(query: _Query, found: ExplainedCommit, problem: str, counts: Mapping[Outcome, int]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "repo": query.repo,
        "revision": found.facts.revision or query.revision,
        "ref": query.ref,
    }
    if problem:
        return {**document, "error": problem}
    return {
        **document,
        "commit": _facts_json(found.facts),
        "counts": {str(outcome): counts[outcome] for outcome in Outcome},
        "jobs": [_json(item) for item in found.explanations],
    }


def _facts_json(facts: CommitFacts) -> dict[str, Any] | None:
    if facts.commit is None:
        return {"problem": facts.problem} if facts.problem else None
    files = changed_files(facts.commit.diff)
    return {
        "author": facts.commit.author,
        "subject": facts.commit.subject,
        "committed": format_rfc3339(facts.commit.committed),
        "files": files[:MAX_FILES],
        "more_files": max(0, len(files) - MAX_FILES),
        "note": facts.note,
    }


def _json(item: Explanation) -> dict[str, Any]:
    return {
        "job_id": item.job_id,
        "outcome": str(outcome_of(item)),
        "reason": str(item.reason),
        "sentence": item.sentence,
        "origin": str(item.origin),
        "ref": item.ref,
        "status": item.status,
        "invocation_id": str(item.invocation_id) if item.invocation_id else "",
        "summary": item.summary,
        "poll_job": item.poll_job,
        "poll_invocation_id": str(item.poll_invocation) if item.poll_invocation else "",
        "next_poll": format_rfc3339(item.next_poll) if item.next_poll is not None else None,
    }


def _values(
    query: _Query, found: ExplainedCommit, problem: str, counts: Counter[Outcome], page_request: PageRequest
) -> dict[str, Any]:
    wanted, now = query.show if query.show in set(Outcome) else "", page_request.now()
    hosts = page_request.context.runtime.hosts
    rows = sorted((_row(item, now) for item in found.explanations), key=_order)
    revision = found.facts.revision or query.revision
    return {
        "rows": [row for row in rows if wanted in ("", row.outcome)],
        "several": len({row.project for row in rows}) > 1,
        "total": len(rows),
        "wanted": wanted,
        "all_address": query.address(),
        "filters": [(str(one), query.address(one), str(counts[one])) for one in Outcome],
        "summary": ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one]),
        "failed": counts[Outcome.FAILED],
        "is_final": not counts[Outcome.RUNNING] and not counts[Outcome.WAITING],
        "problem": problem,
        "asked": query.is_asked,
        "url": safe_url(hosts.commit_link(query.repo.removesuffix("/"), revision)),
        "repo": query.repo,
        "revision": revision,
        "typed": query.revision,
        "ref": query.ref,
        **_facts_values(found.facts, now),
    }


def _facts_values(facts: CommitFacts, now: Instant) -> dict[str, Any]:
    commit = facts.commit
    files = changed_files(commit.diff) if commit else []
    return {
        "known": commit,
        "host_problem": facts.problem,
        "committed_at": format_rfc3339(commit.committed) if commit else "",
        "committed": f"{shown(commit.committed)}, {ago(commit.committed, now)}" if commit else "",
        "files": files[:MAX_FILES],
        "more_files": max(0, len(files) - MAX_FILES),
        "note": facts.note,
    }


def _order(row: _Row) -> tuple[int, str, str]:
    return list(Outcome).index(row.outcome), row.project, row.job


def _row(item: Explanation, now: Instant) -> _Row:
    project, job = split_job_id(item.job_id)
    by = item.asked_by.removeprefix("user:")
    return _Row(
        outcome=outcome_of(item),
        words=words_of(item),
        css=css_of(item),
        project=project,
        job=job,
        job_address=job_address(item.job_id),
        origin=f"{_REQUESTED[item.origin]}{f' by {by}' if by else ''}" if item.origin is not Origin.COMMIT else "",
        sentence=_sentence(item),
        duration=exact_duration((item.finished or now) - item.started) if item.started is not None else "",
        links=list(_links(item)),
    )


def _sentence(item: Explanation) -> str:
    """Return the sentence beside the badge and the links, which do not say it."""
    if not item.status:
        return item.sentence
    batch = "In one batch with a newer commit." if item.reason is Reason.BATCHED else ""
    return f"{batch} {item.summary}".strip()


def _links(item: Explanation) -> Sequence[_Link]:
    """Return the invocations of an explanation that are still stored."""
    links: list[_Link] = []
    if item.invocation_id and item.status:
        links.append(("invocation", invocation_address(item.job_id, item.invocation_id)))
    links += [("running invocation", invocation_address(item.job_id, one)) for one in item.waiting_for]
    if item.poll_job and item.poll_invocation:
        links.append(("poll", invocation_address(item.poll_job, item.poll_invocation)))
    elif item.poll_job:
        links.append(("poller", job_address(item.poll_job)))
    return links
