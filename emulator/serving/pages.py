"""HTML pages of the local servers, in the design of the console: its style sheet is part of each page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2
from werkzeug.wrappers import Response

import luci_scheduler

__all__ = ["SCRIPT_POLICY", "builds_script", "templates"]

SCRIPT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""The content security policy of pages that load `builds_script`."""
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
