"""HTML pages of the local servers, in the design of the console: its style sheet is part of each page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from werkzeug.wrappers import Response

import luci_scheduler

__all__ = ["SCRIPT_POLICY", "SHOWN", "builds_script", "log_answer", "page_answer", "templates"]

SCRIPT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""The content security policy of pages that load `builds_script`."""
SHOWN = 1 << 17
"""The characters of a build's log that its page shows: the last ones."""
_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = Path(luci_scheduler.__file__).parent / "web" / "static" / "style.css"


@cache
def templates(*folders: Path) -> jinja2.Environment:
    """Return the templates of folders, the first of which has precedence; each may extend ``page.html``.

    Values are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["console_style"] = _STYLE.read_text(encoding="utf-8")
    return environment


def builds_script() -> Response:
    """Return the script that keeps the pages of builds up to date."""
    return Response((_TEMPLATES / "builds.js").read_bytes(), content_type="text/javascript; charset=utf-8")


def page_answer(folder: Path, template: str, status: int, **values: Any) -> Response:
    """Return a page that loads `builds_script`, from a template of a folder."""
    html = templates(folder).get_template(template).render(**values)
    return Response(html, status, {"Content-Security-Policy": SCRIPT_POLICY}, content_type="text/html; charset=utf-8")


def log_answer(text: str, following: int | None, *, is_over: bool) -> Response:
    """Return a build's log as text. The headers are for `builds_script`.

    Args:
        text: the log, or the reason why there is none.
        following: the position after the text; None if there is no log.
        is_over: whether the build has ended, so that nothing follows.
    """
    headers = {"Cache-Control": "no-store", "X-Ended": "true" if is_over else "false"}
    headers |= {} if following is None else {"X-Next": str(following)}
    return Response(text, 200, headers, content_type="text/plain; charset=utf-8")
