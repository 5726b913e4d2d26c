"""Addresses of pages: how they are made, and how their parts are read."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id
from luci_scheduler.web.notices import NO_SUCH_JOB
from luci_scheduler.web.response import PageError

__all__ = ["address", "invocation_address", "job_address", "parse_invocation_id", "parse_job_id"]

_MAX_INVOCATION_ID = (1 << 63) - 1
_MAX_DIGITS = 19  # of a 63-bit number


def address(*parts: str, **query: str) -> str:
    """Return the address of a page; each part is one segment of the path, and empty query values are omitted."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    pairs = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(pairs)}" if pairs else path


def job_address(job_id: str, **query: str) -> str:
    """Return the address of a job's page."""
    return address("jobs", *split_job_id(JobId(job_id)), **query)


def invocation_address(job_id: str, invocation_id: InvocationId) -> str:
    """Return the address of an invocation's page."""
    return address("jobs", *split_job_id(JobId(job_id)), str(invocation_id))


def parse_job_id(project: str, job: str) -> JobId:
    """Return the job that two segments of a path name.

    Raises:
        PageError: 404: no job can have such a name.
    """
    if not project or not job or "/" in project or "/" in job:
        raise PageError(404, NO_SUCH_JOB)
    return JobId(f"{project}/{job}")


def parse_invocation_id(text: str) -> InvocationId:
    """Return the invocation ID in a segment of a path.

    Raises:
        PageError: 400: it is not a positive 63-bit number.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not is_number or not 0 < int(text) <= _MAX_INVOCATION_ID:
        raise PageError(400, "Malformed invocation ID.")
    return InvocationId(int(text))
