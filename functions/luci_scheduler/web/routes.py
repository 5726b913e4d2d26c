"""Routes: from paths to pages and actions, and from errors to error pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luci_scheduler.api.errors import ApiError, Code
from luci_scheduler.core.errors import SchedulerError
from luci_scheduler.engine.runtime import logger
from luci_scheduler.web.actions import act
from luci_scheduler.web.addresses import parse_job_id
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.pages.backfill import backfill
from luci_scheduler.web.pages.commit import commit
from luci_scheduler.web.pages.grid import grid
from luci_scheduler.web.pages.invocation import invocation
from luci_scheduler.web.pages.job import job
from luci_scheduler.web.pages.project import project
from luci_scheduler.web.pages.projects import projects
from luci_scheduler.web.rendering import render_error
from luci_scheduler.web.response import PageError, PageResponse
from luci_scheduler.web.static_files import static_file

__all__ = ["answer", "submit"]

_NO_SUCH_PAGE = "There is no such page."
_UNAVAILABLE = "The page is temporarily unavailable."
_INTERNAL_ERROR = "Internal error. Details are in the console's log."


def answer(page_request: PageRequest, path: str) -> PageResponse:
    """Answer a GET of ``path``, which is already decoded."""
    parts = _parts(path)
    # The path is not /static: the web framework of the functions serves its own folder there.
    if parts[0] == "assets" and len(parts) == 2 and (file := static_file(parts[1])):  # noqa: PLR2004 - folder, name
        return file
    return _guarded(page_request, lambda: _page(page_request, parts))


def submit(page_request: PageRequest, path: str, form: Mapping[str, str], fetch_site: str) -> PageResponse:
    """Answer a POST of a form to ``path``; ``fetch_site`` is its ``Sec-Fetch-Site`` header or empty."""
    return _guarded(page_request, lambda: _act(page_request, _parts(path), form, fetch_site))


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")


def _guarded(page_request: PageRequest, respond: Callable[[], PageResponse]) -> PageResponse:
    """Return the response, or the page of the error that was raised instead."""
    # Without a valid policy every page fails, even if it would show no jobs.
    if page_request.context.access.problem:
        return render_error(page_request, PageError(403, page_request.context.access.problem))
    try:
        return respond()
    except PageError as error:
        failure = error
    except ApiError as error:
        failure = PageError(404 if error.code is Code.NOT_FOUND else 500, error.message)
    except SchedulerError as error:
        logger.warning("page_failed", reason=str(error))
        failure = PageError(500, _UNAVAILABLE)
    except Exception:  # noqa: BLE001 - every visitor gets a page with the security headers
        logger.exception("page_fault")
        failure = PageError(500, _INTERNAL_ERROR)
    return render_error(page_request, failure)


def _page(page_request: PageRequest, parts: list[str]) -> PageResponse:
    match parts:
        case [""]:
            return projects(page_request)
        case ["commits"]:
            return commit(page_request)
        case ["backfill", project_name, name]:
            return backfill(page_request, parse_job_id(project_name, name))
        case ["grid", project_name] if project_name:
            return grid(page_request, project_name)
        case ["jobs", project_name] if project_name:
            return project(page_request, project_name)
        case ["jobs", project_name, name]:
            return job(page_request, parse_job_id(project_name, name))
        case ["jobs", project_name, name, invocation_id]:
            return invocation(page_request, parse_job_id(project_name, name), invocation_id)
    raise PageError(404, _NO_SUCH_PAGE)


def _act(page_request: PageRequest, parts: list[str], form: Mapping[str, str], fetch_site: str) -> PageResponse:
    match parts:
        case ["actions", action, project_name, name]:
            return act(page_request, action, parse_job_id(project_name, name), "", form, fetch_site)
        case ["actions", action, project_name, name, invocation_id] if invocation_id:
            return act(page_request, action, parse_job_id(project_name, name), invocation_id, form, fetch_site)
    raise PageError(404, _NO_SUCH_PAGE)
