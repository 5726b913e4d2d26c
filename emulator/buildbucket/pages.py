"""The HTML page of a build."""

from __future__ import annotations

import html
import json

from emulator.buildbucket.builds import Build
from emulator.buildbucket.v2_build import summary_markdown
from emulator.buildbucket.wire_time import format_timestamp

__all__ = ["build_page"]

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "dt{font-weight:600}dd{margin:0 0 .5rem}pre{overflow-x:auto;border:1px solid;padding:.5rem}"
    ":root{color-scheme:light dark}"
)


def build_page(build: Build, log_tail: str = "") -> str:
    """Return the HTML page of a build; all values from requests are escaped."""
    spec = build.spec
    commit = spec.gitiles_commit or {}
    rows = [
        ("Status", build.status + (" (canceling)" if build.cancel_time is not None and not build.ended else "")),
        ("Builder", str(spec.builder)),
        ("Number", "" if build.number is None else str(build.number)),
        (
            "Commit",
            f"{commit.get('host', '')}/{commit.get('project', '')} {commit.get('ref', '')} {commit.get('id', '')}"
            if commit
            else "",
        ),
        ("Created by", spec.created_by),
        ("Created", format_timestamp(build.create_time)),
        ("Started", _time(build.start_time)),
        ("Canceled by", build.canceled_by),
        ("Ended", _time(build.end_time)),
        ("Summary", summary_markdown(build)),
        ("Tags", ", ".join(f"{key}:{value}" for key, value in spec.tags)),
    ]
    entries = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in rows if value)
    properties = html.escape(json.dumps(dict(spec.properties), indent=2, sort_keys=True))
    log = f"<h2>End of the log</h2><pre>{html.escape(log_tail)}</pre>" if log_tail else ""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Build {build.id}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><main><h1>Build {build.id}</h1><dl>{entries}</dl>"
        f"<h2>Properties</h2><pre>{properties}</pre>{log}</main></body></html>"
    )


def _time(instant: int | None) -> str:
    return "" if instant is None else format_timestamp(instant)
