"""Templates, and the pages made from them: as HTML, or as a JSON twin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2

from luci_scheduler.web.addresses import address
from luci_scheduler.web.notices import DONE, HINTS
from luci_scheduler.web.page_request import PageRequest
from luci_scheduler.web.response import PageError, PageResponse, html_response, json_response
from luci_scheduler.web.static_files import static_address
from luci_scheduler.web.tokens import form_token

__all__ = ["render", "render_error"]

_FOLDER = Path(__file__).parent / "templates"
_ONE_TIME = ("done", "job", "seen")  # query values about the previous action or load; the JSON twin does not use them


def render(
    page_request: PageRequest, template: str, document: Any, values: Mapping[str, Any], status: int = 200
) -> PageResponse:
    """Return a page, or its JSON twin if the visitor wants that.

    Args:
        page_request: the request.
        template: the name of the page's template.
        document: the JSON twin.
        values: the template's variables.
        status: the HTTP status.
    """
    if page_request.as_json:
        return json_response(document, status)
    # Shared values come last, so that no page can replace the form token.
    html = _environment().get_template(template).render({"version": "", **values, **_shared_values(page_request)})
    return html_response(html, status)


def render_error(page_request: PageRequest, error: PageError) -> PageResponse:
    """Return the page of an error, or its JSON twin."""
    hint = HINTS.get(error.code, "") if error.hint is None else error.hint
    values = {"code": error.code, "message": error.message, "hint": hint}
    return render(page_request, "error.html", {"error": error.message}, values, error.code)


def _shared_values(page_request: PageRequest) -> dict[str, Any]:
    return {
        "who": page_request.who,
        "token": form_token(page_request.secrets[0], page_request.context.caller, page_request.now()),
        "fresh_key": page_request.fresh_key,
        "done": DONE.get(page_request.query.get("done", ""), ""),
        "json_address": _twin_address(page_request.query),
    }


def _twin_address(query: Mapping[str, str]) -> str:
    """Return the address of a page's JSON twin, relative to the page."""
    lasting = {name: value for name, value in query.items() if name not in _ONE_TIME}
    return "?" + urlencode({**lasting, "format": "json"})


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(address=address, static_address=static_address)
    return environment
