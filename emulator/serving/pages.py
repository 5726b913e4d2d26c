"""HTML pages of the local servers, in the design of the console: its style sheet is part of each page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

import luci_scheduler

__all__ = ["templates"]

_STYLE = Path(luci_scheduler.__file__).parent / "web" / "static" / "style.css"


@cache
def templates(*folders: Path) -> jinja2.Environment:
    """Return the templates of folders, the first of which has precedence; each may extend ``page.html``.

    Values are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["console_style"] = _STYLE.read_text(encoding="utf-8")
    return environment
