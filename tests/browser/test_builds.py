"""The pages of builds in a browser: with and without JavaScript, on small and large screens, and axe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.buildbucket import BuildbucketServer, Command, Outcome
from emulator.buildbucket.testing import MemoryPublisher
from emulator.clock import RealClock
from tests.browser.drive import axe_source, chromium, find_chromium, violations
from tests.unit.emulator.buildbucket.support import COMMIT, schedule, tag
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not find_chromium(), reason="no Chromium on PATH: .ci/run installs it"),
]

WIDTHS = (320, 710, 1000, 1600)
TAGS = [tag("scheduler_job_id", "project/a-job-with-a-long-name"), tag("scheduler_invocation_id", "9" * 18)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BuildbucketServer]:
    """A server whose builds print lines until the file ``go`` exists."""
    script = f"i=0; while [ ! -e {tmp_path}/go ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo the end; exit 1"
    server = BuildbucketServer(RealClock(), MemoryPublisher(), default_plan=Command(("/bin/sh", "-c", script)))
    server.around.console_url, server.around.gitiles_url = "http://127.0.0.1:1", "http://127.0.0.1:2"
    server.around.subjects = lambda keys: dict.fromkeys(keys, "Make a long subject that says what the commit does")
    server.start()
    yield server
    server.stop()


def made(server: BuildbucketServer, builder: str) -> int:
    """Return the ID of a build that runs and has printed some lines."""
    builder_id = {"project": "project", "bucket": "continuous", "builder": builder}
    fields = {"gitilesCommit": COMMIT, "tags": TAGS, "properties": {"text": "x" * 200}}
    build_id = int(schedule(server, builder=builder_id, **fields)["id"])
    until(lambda: (output := server.outputs.get(build_id)) is not None and "line 3\n" in output.read().text)
    return build_id


def open_page(browser: Any, server: BuildbucketServer, path: str, **options: Any) -> tuple[Any, list[str]]:
    """Return a page, and the list of messages on its console."""
    page = browser.new_context(base_url=server.url, **options).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path)
    return page, complaints


def test_a_running_build_is_followed_to_its_end(browser: Any, server: BuildbucketServer, tmp_path: Path) -> None:
    """The output grows with its end in view; then badge, summary and title change without a reload."""
    build_id = made(server, "Linux Tests")
    page, complaints = open_page(browser, server, f"/build/{build_id}")
    seen = page.locator("#output").inner_text()
    until(lambda: len(page.locator("#output").inner_text()) > len(seen))
    assert page.title().startswith("STARTED")
    (tmp_path / "go").touch()
    page.get_by_text("The command ended with status 1").wait_for()
    page.locator("#output").get_by_text("the end").wait_for()
    assert page.title().startswith("FAILURE")
    box = "document.querySelector('.output')"
    assert page.evaluate(f"{box}.scrollTop") == 0  # of a reversed column: the end
    assert complaints == []
    page.get_by_role("link", name="as text").click()
    assert page.locator("pre").inner_text().endswith("the end\n")


def test_without_javascript_a_reload_shows_the_rest(browser: Any, server: BuildbucketServer, tmp_path: Path) -> None:
    """The list filters, and the page of a build shows the end of the output first."""
    build_id = made(server, "Linux Tests")
    server.end_build(made(server, "mac"), Outcome("SUCCESS"))
    page, complaints = open_page(browser, server, "/", java_script_enabled=False)
    page.get_by_label("Builder").fill("linux")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="STARTED").click()
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name=str(build_id)).click()
    assert page.get_by_role("region", name="Output").is_visible()
    (tmp_path / "go").touch()
    until(lambda: server.builds.get(build_id).ended)  # type: ignore[union-attr]
    page.reload()
    assert "the end" in page.locator("#output").inner_text()
    assert complaints == []


def test_axe_finds_nothing_and_nothing_is_cut(browser: Any, server: BuildbucketServer, tmp_path: Path) -> None:
    """In light and dark, at each width; the page itself never scrolls to the side."""
    running, failed = made(server, "Linux Tests with a name of some length"), made(server, "mac")
    server.end_build(failed, Outcome("FAILURE", summary=f"It failed.\n\n    {'y' * 300}"))
    script, boxes = axe_source(), "[...document.querySelectorAll('html, .scroll, pre')]"
    cut = f"{boxes}.filter(box => box.scrollWidth > box.clientWidth).length"
    page, complaints = open_page(browser, server, "/")
    for path, schemes in {
        "/": ("light", "dark"),
        f"/build/{running}": ("light",),
        f"/build/{failed}": ("dark",),
    }.items():
        page.goto(path)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            assert violations(page, script) == [], f"{path} {scheme}"
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(cut) == 0, f"{path} at {width}"
    assert complaints == []
