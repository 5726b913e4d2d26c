"""A browser under the tests' control, and axe-core, which npm installs on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

__all__ = ["axe_source", "chromium", "find_chromium", "leave", "violations"]

_AXE = Path(__file__).parent / "axe"
_INSTALL_SECONDS = 180
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the browser's path, or an empty text if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), "")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser without a window."""
    with sync_playwright() as driver:
        # The tests run as root in containers, where Chromium's own sandbox does not work; only our own pages are
        # opened.
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--no-proxy-server"])
        try:
            yield browser
        finally:
            browser.close()


def leave(context: BrowserContext) -> None:
    """End the scripts and the requests of a context's pages. The end of the browser closes the context.

    A request to close a single context was left unanswered for minutes, though rarely, and it has no time limit.
    """
    for page in context.pages:
        page.goto("about:blank")


def axe_source() -> str:
    """Return axe-core's script; install the locked package first if it is missing."""
    script = _AXE / "node_modules" / "axe-core" / "axe.min.js"
    lock, installed = _AXE / "package-lock.json", _AXE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        ran = subprocess.run(
            command, cwd=_AXE, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False, env=os.environ
        )
        assert ran.returncode == 0, f"npm ci failed:\n{ran.stdout}{ran.stderr}"
    return script.read_text(encoding="utf-8")


def violations(page: Page, source: str) -> list[str]:
    """Return axe's findings on a page, one per line; every rule counts, including best practices."""
    # The driver evaluates the script, so the page keeps its own policy, which allows no other script.
    page.evaluate(source)
    result: Any = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{item['id']} ({item['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for item in result["violations"]
        for node in item["nodes"]
    ]
