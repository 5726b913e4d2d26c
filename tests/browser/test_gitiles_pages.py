"""The pages of the local Gitiles server in a browser: accessible, complete on a phone, and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emulator.gitiles import GitilesServer, Person, Repository
from luci_scheduler.core.instants import SECOND
from tests.browser.drive import axe_source, chromium, leave, violations

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
HOST = "sample.googlesource.com"
AT = 1_773_756_297
LONG = "src/" + "a-rather-long-name-of-a-folder/" * 4 + "file.cc"
WIDTHS = (320, 1280)


@pytest.fixture(name="gitiles", scope="module")
def _gitiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitilesServer]:
    """A server with a repository, and a config that names another one."""
    root = tmp_path_factory.mktemp("gitiles")
    repository = Repository.create(root / HOST / "engine")
    author = Person("Ana &amp; Bo", "ana@example.com")
    for number in range(5):
        files = {"README": f"{number}\n", LONG: "x" * 300 + "\n", f"src/{number}.cc": "int a;\n"}
        message = f"Change {number} & <b>more</b>\n\nA body with a long word: {'w' * 120}\n"
        repository.commit(message, files, at=(AT + number) * SECOND, author=author)
    repository.tag("v1", repository.resolve("main"), "A release", at=AT * SECOND)
    server = GitilesServer(root)
    server.start()
    server.around.console_url = "http://127.0.0.1:1"
    server.around.watched = lambda: {f"https://{HOST}/engine", f"https://{HOST}/missing"}
    yield server
    server.stop()


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


PATHS = (
    "/",
    f"/{HOST}/engine",
    f"/{HOST}/engine/+log/main",
    f"/{HOST}/engine/+/main",
    f"/{HOST}/engine/+/main/{LONG}",
    f"/{HOST}/engine/+/main/src",
)
IN_DARK = PATHS[:4:3]
"""The list, and a commit: they have all colors."""


def test_each_page_is_accessible_and_fits_every_screen(browser: Any, gitiles: GitilesServer) -> None:
    """No finding of axe-core in light and dark, and no page is wider than its window."""
    page, source = browser.new_page(), axe_source()
    for path in PATHS:
        page.goto(gitiles.url + path)
        for scheme in ("light", "dark") if path in IN_DARK else ("light",):
            page.emulate_media(color_scheme=scheme)
            assert violations(page, source) == [], (path, scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    leave(page.context)


def test_one_walks_from_the_list_to_a_difference_without_javascript(browser: Any, gitiles: GitilesServer) -> None:
    """Repository, branch, second page, commit, parent; text of a commit is never markup."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(gitiles.url)
    assert "missing" in page.get_by_text("git push").inner_text()
    page.get_by_role("link", name="engine").click()
    page.get_by_role("row", name="v1").get_by_role("link", name="v1").wait_for()
    page.get_by_role("row", name="main").get_by_role("link", name="main").click()
    page.goto(f"{page.url}?n=2")
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Newer").wait_for()
    page.get_by_role("row", name="Change 2 & <b>more</b>").get_by_role("rowheader").get_by_role("link").click()
    assert page.locator("h1").inner_text() == "Change 2 & <b>more</b>"
    assert "Ana &amp; Bo" in page.locator(".facts").inner_text()
    assert page.locator(".diff .add").all_inner_texts() == ["+2", "+int a;"]
    page.locator(".facts").get_by_role("link").first.click()
    assert page.locator("h1").inner_text().startswith("Change 1")
    link = page.get_by_role("link", name="What became of this commit").get_attribute("href")
    assert link.startswith(f"http://127.0.0.1:1/commits?repo=https%3A%2F%2F{HOST}%2Fengine&revision=")
    leave(context)
