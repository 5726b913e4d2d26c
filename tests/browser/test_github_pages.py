"""The pages of the local GitHub server in a browser: accessible, and complete on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.github import GitHubServer
from emulator.gitiles import Repository
from luci_scheduler.core.instants import SECOND, Instant
from tests.browser.drive import axe_source, chromium, leave, violations

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
NAME = "example-org/widget"
NOW = Instant(1_773_756_297 * SECOND)


def test_commits_with_statuses_are_accessible_and_fit_every_screen(tmp_path: Path) -> None:
    """All states of a status, with and without a link, in light and dark."""
    commit = Repository.create(tmp_path / "github.com" / NAME).commit("Change " + "w" * 80, {"a": "1"}, at=NOW)
    server = GitHubServer(tmp_path)
    server.start()
    server.around.console_url = "http://127.0.0.1:1"
    for state in ("success", "pending", "failure", "error"):
        status = {"state": state, "context": f"scheduler/proj/{state}", "description": "word " * 28}
        server.statuses.add(NAME, commit, {**status, "target_url": "https://example.com/"}, NOW)
        server.statuses.add(NAME, commit, {**status, "context": f"{state} without a page"}, NOW)
    with chromium() as browser:
        page, source = browser.new_page(), axe_source()
        for path in (f"/{NAME}", f"/{NAME}/commit/{commit}"):
            page.goto(server.url + path)
            assert page.get_by_text("success").count() >= 2
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert violations(page, source) == [], (path, scheme)
            page.set_viewport_size({"width": 320, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        leave(page.context)
    server.stop()
