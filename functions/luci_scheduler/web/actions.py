"""Actions: from the POST of a form to the service layer, and back to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luci_scheduler.api.backfill import backfill_commits
from luci_scheduler.api.errors import ApiError, Code, NoSuchInvocationError, NoSuchJobError
from luci_scheduler.api.service import abort_invocation, abort_job, pause_job, resume_job
from luci_scheduler.api.triggering import rerun_invocation, trigger_job
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id
from luci_scheduler.web.addresses import address, parse_invocation_id
from luci_scheduler.web.filters import project_address
from luci_scheduler.web.notices import FORBIDDEN, NO_SUCH_INVOCATION, NO_SUCH_JOB
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.pages.backfill import FIELDS, wanted_backfill
from luci_scheduler.web.response import PageError, PageResponse, redirect
from luci_scheduler.web.tokens import is_genuine

__all__ = ["act"]

_EXPIRED = "This form has expired, or it was not made for you by this site."
_EXPIRED_HINT = "Nothing was done. Go back, reload the page, and repeat the action."
_NO_REASON = "No reason was given."
_STATUS = {Code.NOT_FOUND: 404, Code.FAILED_PRECONDITION: 409, Code.INVALID_ARGUMENT: 400}

Form = Mapping[str, str]


def act(
    page_request: PageRequest, action: str, job_id: JobId, invocation: str, form: Form, fetch_site: str
) -> PageResponse:
    """Perform an action and redirect the browser to the page that shows its result.

    Args:
        page_request: the request.
        action: the action's name in the path.
        job_id: the job.
        invocation: the invocation's ID in the path; empty for actions on a job.
        form: the fields of the form.
        fetch_site: the ``Sec-Fetch-Site`` header, in which a browser reports whether another site sent
            the form; may be empty.

    Raises:
        PageError: the action was refused; nothing was done.
        TransientError, ComeAgainError: the same form may be sent again without harm.
    """
    # The form is checked first, so that another site's page cannot even probe for jobs.
    _check_form(page_request, form, fetch_site)
    if action not in (_INVOCATION_ACTIONS if invocation else _JOB_ACTIONS):
        raise PageError(404, "There is no such action.")
    try:
        if invocation:
            invocation_id = parse_invocation_id(invocation)
            done = _INVOCATION_ACTIONS[action](page_request, job_id, invocation_id, form)
        else:
            done = _JOB_ACTIONS[action](page_request, job_id, form)
    except ApiError as error:
        raise _page_error(error) from error
    return redirect(_next_page(job_id, invocation, done, form))


def _check_form(page_request: PageRequest, form: Form, fetch_site: str) -> None:
    """Refuse a form that another site's page sent, or that was not made for the caller."""
    context, now = page_request.context, page_request.now()
    is_foreign = fetch_site not in ("", "same-origin", "none")
    if is_foreign or not is_genuine(page_request.secrets, form.get("token", ""), context.caller, now):
        raise PageError(403, _EXPIRED, _EXPIRED_HINT)


def _next_page(job_id: JobId, invocation: str, done: str, form: Form) -> str:
    """Return the address of the page that shows the result.

    No address comes from the form, so a forged form cannot redirect to another site.
    """
    project, name = split_job_id(job_id)
    if form.get("page") == "project":
        return project_address(project, form.get("filter", ""), form.get("after", ""), done=done, job=name)
    # A rerun starts a new invocation, which the job's page shows.
    parts = [invocation] if invocation and done == "abort" else []
    return address("jobs", project, name, *parts, done=done)


def _page_error(error: ApiError) -> PageError:
    match error:
        case NoSuchInvocationError():
            return PageError(404, NO_SUCH_INVOCATION)
        case NoSuchJobError():
            return PageError(404, NO_SUCH_JOB)
        case ApiError(code=Code.PERMISSION_DENIED):
            return PageError(403, FORBIDDEN)
        case _:
            return PageError(_STATUS.get(error.code, 500), error.message)


def _trigger(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    trigger_job(page_request.context, job_id, form.get("key", ""))
    return "trigger"


def _pause(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    pause_job(page_request.context, job_id, form.get("reason", "").strip() or _NO_REASON)
    return "pause"


def _resume(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    resume_job(page_request.context, job_id, form.get("reason", "").strip() or _NO_REASON)
    return "resume"


def _abort_job(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    abort_job(page_request.context, job_id, form.get("reason", ""))
    return "abort"


def _backfill(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    wanted = wanted_backfill(job_id, {name: form.get(name, "").strip() for name in FIELDS})
    backfill_commits(page_request.context, wanted, preview=False, request_id=form.get("key", ""))
    return "backfill"


def _abort_invocation(page_request: PageRequest, job_id: JobId, invocation_id: InvocationId, form: Form) -> str:
    abort_invocation(page_request.context, job_id, invocation_id, form.get("reason", ""))
    return "abort"


def _rerun(page_request: PageRequest, job_id: JobId, invocation_id: InvocationId, form: Form) -> str:
    rerun_invocation(page_request.context, job_id, invocation_id, form.get("key", ""))
    return "rerun"


_JOB_ACTIONS: Mapping[str, Callable[[PageRequest, JobId, Form], str]] = {
    "triggerJob": _trigger,
    "pauseJob": _pause,
    "resumeJob": _resume,
    "abortJob": _abort_job,
    "backfillJob": _backfill,
}
_INVOCATION_ACTIONS: Mapping[str, Callable[[PageRequest, JobId, InvocationId, Form], str]] = {
    "abortInvocation": _abort_invocation,
    "rerunInvocation": _rerun,
}
