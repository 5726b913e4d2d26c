"""``python -m tests.browser.screenshots``: take pictures of every page into ``docs/images/``: light, dark, phone."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

from luci_scheduler.web.addresses import address
from tests.browser.drive import chromium
from tests.browser.sample import JOB, POLLER, PROJECT, REF, REPO, SLOW, Sample, sample
from tests.waiting import until

_FOLDER = Path(__file__).parents[2] / "docs" / "images"
_LOOKS = {"light": ("light", 1200), "dark": ("dark", 1200), "phone": ("light", 360)}
_LOWEST, _TALLEST = 400, 1100


def addresses(running: Sample) -> dict[str, str]:
    """Return a picture's name → the address of its page, after every page has some content."""
    done, active = running.newest(JOB), running.newest(SLOW)
    return {
        "projects": "/",
        "project": address("jobs", PROJECT),
        "job": address("jobs", PROJECT, "linux-tests"),
        "job-running": address("jobs", PROJECT, "mac-tests"),
        "job-paused": address("jobs", PROJECT, "docs"),
        "poller": address("jobs", PROJECT, POLLER.partition("/")[2]),
        "invocation": address("jobs", PROJECT, "linux-tests", str(done.id)),
        "invocation-running": address("jobs", PROJECT, "mac-tests", str(active.id)),
        "commit": address("commits", repo=REPO, revision=running.revisions[-1], ref=REF),
        "backfill": address(
            "backfill",
            PROJECT,
            "linux-tests",
            **{"repo": REPO, "ref": REF, "from": running.revisions[0], "to": running.revisions[-1]},
        ),
        "grid": address("grid", PROJECT, repo=REPO, ref=REF),
        "error": address("jobs", PROJECT, "no-such-job"),
    }


def prepare(running: Sample, page: Page) -> None:
    """Make commits, a running build, triggers that wait behind it, and a paused job."""
    page.goto(running.url + address("jobs", PROJECT, "docs"))
    page.get_by_text("Pause…").click()
    page.get_by_label("Why are you pausing it?").fill("The docs server moves today")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.wait_for_url("**?done=pause")
    running.commit()
    page.goto(running.url + address("jobs", PROJECT, POLLER.partition("/")[2]))
    page.get_by_role("button", name="Trigger").click()
    until(lambda: running.running(SLOW))
    for _ in range(3):
        running.commit()
    until(lambda: len(list(running.store.pending_triggers(SLOW, 10))) >= 3)
    until(lambda: running.newest(JOB).status.is_final and running.newest(JOB).incoming_triggers)
    # Two status checks of the running build, so that its timeline shows some.
    until(lambda: running.newest(SLOW).mutations > 8)


def _pictures(browser: Browser, running: Sample) -> Iterator[Path]:
    for look, (scheme, width) in _LOOKS.items():
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": _LOWEST})
        page = context.new_page()
        for name, path in addresses(running).items():
            page.set_viewport_size({"width": width, "height": _LOWEST})
            page.goto(running.url + path)
            page.evaluate("document.activeElement.blur()")
            tall = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": width, "height": min(_TALLEST, tall)})
            target = _FOLDER / f"{name}-{look}.png"
            page.screenshot(path=target)
            yield target
        context.close()


def main() -> int:
    """Take the pictures."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sample(Path(folder)) as running, chromium() as browser:
        page = browser.new_page()
        prepare(running, page)
        page.close()
        for path in _pictures(browser, running):
            sys.stdout.write(f"{path.name}: {path.stat().st_size // 1024} KB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
