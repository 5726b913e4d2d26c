"""What the pages' forms do: from a POST to the service layer, and back to a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luci_scheduler.api.backfill import Backfill, backfill_commits
from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.api.service import abort_invocation, abort_job, pause_job, resume_job
from luci_scheduler.api.triggering import rerun_invocation, trigger_job
from luci_scheduler.core.identifiers import InvocationId, JobId, split_job_id
from luci_scheduler.web.page_request import Answer, PageError, PageRequest, address, redirect
from luci_scheduler.web.pages import NO_SUCH_INVOCATION, NO_SUCH_JOB, project_address
from luci_scheduler.web.tokens import is_genuine

__all__ = ["act"]

_FORBIDDEN = "No permission to execute the attempted action."
_EXPIRED = "The form is too old, or was not made for you here."
_EXPIRED_HINT = "Nothing was done. Go back, load the page again, and repeat the action."
_MAX_INVOCATION_ID = (1 << 63) - 1

Form = Mapping[str, str]


def act(page_request: PageRequest, action: str, job_id: JobId, invocation: str, form: Form, fetch_site: str) -> Answer:
    """Carry out an action and send the browser on to the page of the job or invocation, or back to the project's.

    Args:
        page_request: who acts.
        action: as in the path.
        job_id: the job.
        invocation: the invocation's ID; empty for actions on a job.
        form: the fields that were sent.
        fetch_site: ``Sec-Fetch-Site``, by which a browser tells whose page sent the form; empty if it does not.

    Raises:
        PageError: it cannot be had; nothing was done.
        TransientError, ComeAgainError: the same form again does no harm.
    """
    runtime = page_request.context.runtime
    token = form.get("token", "")
    from_elsewhere = fetch_site not in ("", "same-origin", "none")
    if from_elsewhere or not is_genuine(page_request.secrets, token, page_request.context.caller, runtime.clock.now()):
        raise PageError(403, _EXPIRED, _EXPIRED_HINT)
    if action not in (_INVOCATION_ACTIONS if invocation else _JOB_ACTIONS):
        raise PageError(404, "There is no such action.")
    try:
        if invocation:
            done = _INVOCATION_ACTIONS[action](page_request, job_id, _invocation_id(invocation), form)
        else:
            done = _JOB_ACTIONS[action](page_request, job_id, form)
    except ApiError as error:
        raise _page_error(error, action) from error
    return redirect(_next_page(job_id, invocation, done, form))


def _next_page(job_id: JobId, invocation: str, done: str, form: Form) -> str:
    """Return where the visitor sees what he did: no address comes from the form, so that none can lead elsewhere."""
    project, name = split_job_id(job_id)
    if form.get("page") == "project":
        return project_address(project, form.get("filter", ""), form.get("from", ""), done=done, job=name)
    # A rerun's invocation is a new one: it shows on the job's page. So does what a job was asked for.
    parts = [invocation] if invocation and done == "abort" else []
    return address("jobs", project, name, *parts, done=done)


def _page_error(error: ApiError, action: str) -> PageError:
    match error.code:
        case Code.NOT_FOUND if error.message == "no such invocation":
            return PageError(404, NO_SUCH_INVOCATION)
        case Code.NOT_FOUND if action == "backfillJob" and not error.message.startswith("no such job"):
            return PageError(404, error.message)
        case Code.NOT_FOUND:
            return PageError(404, NO_SUCH_JOB)
        case Code.PERMISSION_DENIED:
            return PageError(403, _FORBIDDEN)
        case Code.FAILED_PRECONDITION:
            return PageError(409, error.message)
        case Code.INVALID_ARGUMENT:
            return PageError(400, error.message)
        case _:
            return PageError(500, error.message)


def _invocation_id(text: str) -> InvocationId:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _MAX_INVOCATION_ID):  # noqa: PLR2004
        raise PageError(400, "Malformed invocation ID.")
    return InvocationId(int(text))


def _trigger(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    trigger_job(page_request.context, job_id, form.get("key", ""))
    return "trigger"


def _pause(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    pause_job(page_request.context, job_id, form.get("reason", "").strip() or "No reason was given.")
    return "pause"


def _resume(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    resume_job(page_request.context, job_id, form.get("reason", "").strip() or "No reason was given.")
    return "resume"


def _abort_job(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    abort_job(page_request.context, job_id, form.get("reason", ""))
    return "abort"


def _backfill(page_request: PageRequest, job_id: JobId, form: Form) -> str:
    repo, ref, first, last = (form.get(name, "").strip() for name in ("repo", "ref", "from", "to"))
    wanted = Backfill((job_id,), repo, ref, first.lower(), last.lower())
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
