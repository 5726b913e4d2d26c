"""From paths to pages and actions; what fails is answered with a page that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.engine.runtime import logger
from luci_scheduler.web import pages
from luci_scheduler.web.actions import act
from luci_scheduler.web.page_request import Answer, PageError, PageRequest, static_file

__all__ = ["answer", "submit"]

_NO_SUCH_PAGE = "There is no such page."


def answer(page_request: PageRequest, path: str) -> Answer:
    """Answer a GET of ``path``, which is decoded already."""
    parts = _parts(path)
    # Not /static: there the web framework under the functions serves a folder of its own.
    if parts[0] == "assets" and len(parts) == 2 and (file := static_file(parts[1])):  # noqa: PLR2004 - folder, name
        return file
    return _guarded(page_request, lambda: _page(page_request, parts))


def submit(page_request: PageRequest, path: str, form: Mapping[str, str], fetch_site: str) -> Answer:
    """Answer a POST of a form to ``path``; ``fetch_site`` is its ``Sec-Fetch-Site`` header or empty."""
    return _guarded(page_request, lambda: _act(page_request, _parts(path), form, fetch_site))


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")


def _guarded(page_request: PageRequest, respond: Callable[[], Answer]) -> Answer:
    if page_request.context.access.problem:
        return page_request.error(403, page_request.context.access.problem)
    try:
        return respond()
    except PageError as error:
        return page_request.error(error.code, error.message, error.hint)
    except ApiError as error:
        return page_request.error(404 if error.code is Code.NOT_FOUND else 500, error.message)
    except SchedulerError as error:
        logger.warning("page_failed", reason=str(error))
        return page_request.error(500, "The page cannot be shown just now.")
    except Exception:  # noqa: BLE001 - whatever it is, the visitor gets a page with its headers
        logger.exception("page_fault")
        return page_request.error(
            500, "The page cannot be shown, because of a defect of the scheduler: its log tells more."
        )


def _page(page_request: PageRequest, parts: list[str]) -> Answer:
    match parts:
        case [""]:
            return pages.projects(page_request)
        case ["commits"]:
            return pages.commit(page_request)
        case ["backfill", project, job]:
            return pages.backfill(page_request, _job_id(project, job))
        case ["jobs", project] if project:
            return pages.project(page_request, project)
        case ["jobs", project, job]:
            return pages.job(page_request, _job_id(project, job))
        case ["jobs", project, job, invocation_id]:
            return pages.invocation(page_request, _job_id(project, job), invocation_id)
    raise PageError(404, _NO_SUCH_PAGE)


def _act(page_request: PageRequest, parts: list[str], form: Mapping[str, str], fetch_site: str) -> Answer:
    match parts:
        case ["actions", action, project, job]:
            return act(page_request, action, _job_id(project, job), "", form, fetch_site)
        case ["actions", action, project, job, invocation_id] if invocation_id:
            return act(page_request, action, _job_id(project, job), invocation_id, form, fetch_site)
    raise PageError(404, _NO_SUCH_PAGE)


def _job_id(project: str, job: str) -> JobId:
    if not project or not job or "/" in project or "/" in job:
        raise PageError(404, pages.NO_SUCH_JOB)
    return JobId(f"{project}/{job}")
