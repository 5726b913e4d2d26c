"""The pages: paths to answers. Reading only; what a page costs in reads does not grow with the history."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jinja2

from luci_scheduler.api.context import Context
from luci_scheduler.api.errors import ApiError
from luci_scheduler.api.service import get_invocation_log, get_job
from luci_scheduler.core.identifiers import InvocationId, JobId
from luci_scheduler.web.presentation import invocation_json, invocation_view, job_json

__all__ = ["Answer", "answer"]

Answer = tuple[str, int, dict[str, str]]

_HEADERS = {
    # Nothing but our own style sheet: no script, no frame, no image from elsewhere.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FOLDER = Path(__file__).parent
_PAGE = 50
_MAX_INVOCATION_ID = (1 << 63) - 1


def answer(context: Context, path: str, *, as_json: bool) -> Answer:
    """Answer a caller's GET of ``path``; ``as_json`` asks for the JSON twin."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["static", "style.css"]:
            return (
                _style(),
                200,
                {**_HEADERS, "Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=3600"},
            )
        case _ if context.access.problem:
            return _error(403, context.access.problem, as_json=as_json)
        case ["jobs", project, job]:
            return _job(context, JobId(f"{project}/{job}"), as_json=as_json)
        case ["jobs", project, job, invocation_id]:
            return _invocation(context, JobId(f"{project}/{job}"), invocation_id, as_json=as_json)
    return _error(404, "There is no such page.", as_json=as_json)


def _invocation(context: Context, job_id: JobId, text: str, *, as_json: bool) -> Answer:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_INVOCATION_ID):
        return _error(400, "Malformed invocation ID.", as_json=as_json)
    try:
        invocation, log = get_invocation_log(context, job_id, InvocationId(int(text)))
    except ApiError:  # of a job that is not there, or not visible, it is said by its own page
        return _error(404, "The requested invocation is not found.", as_json=as_json)
    if as_json:
        return _json(invocation_json(invocation, log))
    return _html("invocation.html", view=invocation_view(invocation, log, context.runtime.clock.now()))


def _job(context: Context, job_id: JobId, *, as_json: bool) -> Answer:
    try:
        job = get_job(context, job_id)
    except ApiError:
        return _error(404, "No such job or no permission to view it.", as_json=as_json)
    invocations = context.runtime.store.invocations(job_id, _PAGE)
    if as_json:
        return _json(job_json(job, invocations))
    now = context.runtime.clock.now()
    views = [invocation_view(invocation, "", now) for invocation in invocations]
    return _html("job.html", job=job, invocations=views)


def _error(code: int, message: str, *, as_json: bool) -> Answer:
    if as_json:
        return _json({"error": message}, code)
    return _html("error.html", code, message=message)


def _json(document: Any, code: int = 200) -> Answer:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text, code, {**_HEADERS, "Content-Type": "application/json; charset=utf-8"}


def _html(template: str, code: int = 200, **values: Any) -> Answer:
    text = _environment().get_template(template).render(**values)
    return text, code, {**_HEADERS, "Content-Type": "text/html; charset=utf-8"}


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> str:
    return (_FOLDER / "static" / "style.css").read_text(encoding="utf-8")
