"""The pages in a browser, on a whole local cloud: every action by mouse and keyboard, without JavaScript, and axe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emulator.start_page import StartPage
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.invocation import Invocation, Status
from luci_scheduler.core.job import Job
from luci_scheduler.web.addresses import address
from tests.browser.drive import axe_source, chromium, find_chromium, leave, violations
from tests.browser.sample import ALONE, JOB, PROJECT, REF, REPO, SLOW, Sample, sample
from tests.browser.screenshots import addresses
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not find_chromium(), reason="no Chromium on PATH: .ci/run installs it"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """The sample project."""
    with sample(tmp_path_factory.mktemp("sample")) as started:
        started.commit()
        until(lambda: started.running(SLOW))
        until(lambda: started.newest(JOB).status.is_final)
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture(params=["with JavaScript", "without JavaScript"])
def page(request: pytest.FixtureRequest, browser: Any, running: Sample) -> Iterator[Any]:
    """A page of a browser with scripts, and of one without; any message on its console fails the test."""
    with_scripts = request.param == "with JavaScript"
    context = browser.new_context(base_url=running.url, java_script_enabled=with_scripts)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    leave(context)
    assert complaints == []


_PROJECT = address("jobs", PROJECT)


def _job(running: Sample, job_id: JobId) -> Job:
    found = running.store.job(job_id)
    assert found is not None
    return found.value


def _job_page(job_id: JobId) -> str:
    return address("jobs", *job_id.split("/"))


def _wait_for(page: Any, running: Sample, what: Callable[[], Any]) -> Any:
    answer = until(what)
    page.reload()
    return answer


def test_a_job_is_triggered(page: Any, running: Sample) -> None:
    """The button starts an invocation in the caller's name, and the page says so."""
    before = running.newest(JOB).id
    page.goto(_job_page(JOB))
    page.get_by_role("button", name="Trigger").click()
    assert page.get_by_role("status").inner_text().startswith("The job was triggered.")
    started = _wait_for(page, running, lambda: running.newest(JOB) if running.newest(JOB).id != before else None)
    assert started.triggered_by == "user:dev@localhost"
    page.get_by_role("link", name=str(started.id), exact=True).wait_for()
    until(lambda: running.newest(JOB).status.is_final)


def test_a_job_is_paused_and_resumed(page: Any, running: Sample) -> None:
    """The page shows who paused the job, when and why; a paused job has no button to trigger it."""
    job_id = JobId(f"{PROJECT}/cleanup")
    page.goto(_job_page(job_id))
    page.locator("summary", has_text="Pause").click()
    page.get_by_label("Why are you pausing it?").fill("Disk is <b>full</b>")
    page.get_by_role("button", name="Pause", exact=True).click()
    assert "Disk is <b>full</b>" in page.locator("#live-facts .notice.warn").inner_text()
    assert page.locator("#live-facts .notice.warn").inner_text().startswith("Paused by dev@localhost ")
    assert page.get_by_role("button", name="Trigger").count() == 0
    page.goto(f"/jobs/{PROJECT}?filter=paused")
    assert page.locator("tbody tr").count() == 1
    page.goto(_job_page(job_id))
    page.locator("summary", has_text="Resume").click()
    page.get_by_role("button", name="Resume", exact=True).click()
    page.get_by_role("button", name="Trigger").wait_for()
    assert not _job(running, job_id).paused


def test_a_job_is_acted_on_from_its_project_page(page: Any, running: Sample) -> None:
    """A row triggers its job and returns to the list, pauses it through the reason form, and resumes it."""
    before = running.newest(JOB).id
    page.goto(_PROJECT)
    page.get_by_role("button", name="Trigger linux-tests").click()
    assert page.get_by_role("status").inner_text().startswith("linux-tests: The job was triggered.")
    assert page.url.endswith(f"{_PROJECT}?done=trigger&job=linux-tests")
    until(lambda: running.newest(JOB).id != before and running.newest(JOB).status.is_final)
    page.get_by_role("link", name="Pause… linux-tests").click()
    page.get_by_label("Why are you pausing it?").fill("Rack is moved")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.wait_for_url("**?done=pause")  # otherwise the next address may be opened before the form is sent
    page.goto(f"{_PROJECT}?filter=paused")
    row = page.get_by_role("row", name="linux-tests")
    assert "Rack is moved" in row.inner_text()
    assert row.get_by_role("button").count() == 1
    row.get_by_role("button", name="Resume linux-tests").click()
    page.wait_for_url(f"**{_PROJECT}?filter=paused&done=resume&job=linux-tests")
    assert not _job(running, JOB).paused


def test_an_invocation_is_aborted_and_rerun(page: Any, running: Sample) -> None:
    """The page shows who requested the abort and why, then the result; Run again emits the triggers again."""
    page.goto(_job_page(ALONE))
    page.get_by_role("button", name="Trigger").click()
    first = until(lambda: running.running(ALONE))
    page.goto(address("jobs", *ALONE.split("/"), str(first.id)))
    page.locator("summary", has_text="Abort").click()
    page.get_by_label("Why are you aborting it?").fill("wrong branch")
    page.get_by_role("button", name="Abort", exact=True).click()
    assert "The abort was requested." in page.get_by_role("status").inner_text()
    until(lambda: _status(running, ALONE, first.id) is Status.ABORTED)
    page.reload()
    facts = page.locator("#live-facts").inner_text()
    assert "ABORTED" in facts
    assert "wrong branch" in facts
    page.get_by_role("button", name="Run again").click()
    assert "emitted again" in page.get_by_role("status").inner_text()
    again = until(lambda: running.running(ALONE))
    assert again.incoming_triggers[0].id.startswith(f"rerun:{first.id}:")
    _abort_all(page, running, ALONE)


def test_all_of_a_job_is_aborted(page: Any, running: Sample) -> None:
    """The job's own button aborts every active invocation."""
    page.goto(_job_page(ALONE))
    page.get_by_role("button", name="Trigger").click()
    first = until(lambda: running.running(ALONE))
    _abort_all(page, running, ALONE)
    assert _status(running, ALONE, first.id) is Status.ABORTED


def _abort_all(page: Any, running: Sample, job_id: JobId) -> None:
    page.goto(_job_page(job_id))
    page.locator("summary", has_text="Abort all").click()
    page.get_by_role("button", name="Abort all", exact=True).click()
    until(lambda: running.is_idle(job_id))


def test_a_range_is_backfilled(page: Any, running: Sample) -> None:
    """The preview lists the commits and changes nothing; the button below it emits their triggers."""
    first, second = running.commit(announced=False), running.commit(announced=False)
    until(lambda: running.is_idle(JOB))
    before = running.newest(JOB).id
    page.goto(_job_page(JOB))
    page.get_by_role("link", name="Backfill").click()
    assert page.get_by_label("Repository").input_value() == REPO
    assert page.get_by_label("Ref", exact=True).input_value() == REF
    page.get_by_label("From revision").fill(first)
    page.get_by_label("To revision").fill(second)
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Emit 1 trigger").wait_for()
    assert page.locator(".commits code").all_inner_texts() == [second[:8]]
    assert running.newest(JOB).id == before
    page.get_by_role("button", name="Emit 1 trigger").click()
    started = until(lambda: running.newest(JOB) if running.newest(JOB).id != before else None)
    assert started.incoming_triggers[-1].payload["revision"] == second
    until(lambda: running.newest(JOB).status.is_final)


def test_a_commit_is_explained(page: Any, running: Sample) -> None:
    """The page has a row for each job that watches the repository; links filter the rows by outcome."""
    revision = running.commit()
    page.goto("/commits")
    page.get_by_label("Repository").fill(REPO)
    page.get_by_label("Revision").fill(revision)
    page.get_by_role("button", name="Explain").click()
    page.locator("tbody tr").nth(3).wait_for()
    assert sorted(page.locator("tbody th").all_inner_texts()) == ["docs", "linux-tests", "mac-tests", "win-release"]
    page.get_by_role("link", name="Skipped 1").click()
    page.wait_for_url("**show=skipped")
    assert page.locator("tbody th").all_inner_texts() == ["docs"]
    assert "main.cc matches no path_regexps (docs/.*)" in page.locator("tbody").inner_text()
    page.locator("summary", has_text="1 changed file").click()
    assert "src/main.cc" in page.locator(".files li").all_inner_texts()[0]


@pytest.mark.parametrize("page", ["without JavaScript"], indirect=True)
def test_the_grid_of_commits_by_jobs(page: Any, running: Sample) -> None:
    """The project's page leads to the grid, which loads on demand; a cell leads to its invocation."""
    revision = running.commit()
    newest = until(lambda: _of_commit(running, revision))
    page.goto(_PROJECT)
    page.get_by_role("link", name="Commits by jobs").click()
    page.get_by_role("link", name=f"Show {REF}").click()
    page.locator(".grid tbody tr").first.wait_for()
    assert page.locator(".grid thead th").all_inner_texts()[1:] == ["docs", "linux-tests", "mac-tests", "win-release"]
    for width in (320, 1000, 1600):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1280, "height": 720})
    page.locator(f".grid a[href$='/{newest.id}']").first.click()
    page.get_by_role("heading", name="Debug log").wait_for()
    assert page.url.endswith(f"/{newest.id}")


def _of_commit(running: Sample, revision: str) -> Invocation | None:
    """Return the ended invocation of the job for a commit; None before."""
    ended = (item for item in running.store.invocations(JOB, 5) if item.status.is_final)
    return next((item for item in ended if item.incoming_triggers[-1].payload.get("revision") == revision), None)


@pytest.mark.parametrize("page", ["without JavaScript"], indirect=True)
def test_the_end_of_a_log_is_in_view(page: Any, running: Sample) -> None:
    """The box shows the last lines first, also without a script; a link leads to the beginning."""
    newest = running.newest(JOB)
    page.goto(address("jobs", *JOB.split("/"), str(newest.id)))
    box, log = page.locator(".tail"), page.locator("#live-log")
    page.set_viewport_size({"width": 500, "height": 600})
    assert box.evaluate("box => box.scrollHeight > box.clientHeight")
    below = "([box, log]) => log.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom"
    assert abs(page.evaluate(below, [box.element_handle(), log.element_handle()])) < 40
    page.get_by_role("link", name="Go to its beginning").click()
    above = "([box, log]) => log.getBoundingClientRect().top - box.getBoundingClientRect().top"
    until(lambda: abs(page.evaluate(above, [box.element_handle(), log.element_handle()])) < 40)


def test_warnings_of_the_config_unfold(page: Any, running: Sample) -> None:
    """Warnings have line and job; they are folded until the user opens them."""
    page.goto(_PROJECT)
    warning = page.get_by_text('warning: job "win-release"')
    assert not warning.is_visible()
    page.get_by_text("1 warning about the active config").click()
    assert warning.is_visible()
    assert warning.inner_text().startswith("luci-scheduler.cfg:")


def test_a_stale_triage_log_is_marked(page: Any, running: Sample) -> None:
    """The log is stale while a trigger waits behind a running build; once it starts an invocation, the log is fresh."""
    _trigger(page, ALONE)
    first = until(lambda: running.running(ALONE))
    page.goto(_job_page(ALONE))
    triage = page.locator("#live-triage")
    assert "stale" not in triage.inner_text()
    _trigger(page, ALONE)
    until(lambda: list(running.store.pending_triggers(ALONE, 2)))
    page.goto(_job_page(ALONE))
    assert "This log is stale. Since then:" in triage.inner_text()
    assert "1 of the pending triggers on this page has arrived." in triage.inner_text()
    page.goto(address("jobs", *ALONE.split("/"), str(first.id)))
    page.locator("summary", has_text="Abort").click()
    page.get_by_role("button", name="Abort", exact=True).click()
    until(lambda: running.newest(ALONE).id != first.id)
    page.goto(_job_page(ALONE))
    assert "stale" not in triage.inner_text()
    _abort_all(page, running, ALONE)


def _trigger(page: Any, job_id: JobId) -> None:
    page.goto(_job_page(job_id))
    page.get_by_role("button", name="Trigger").click()
    page.get_by_role("status").wait_for()


def test_history_is_paged(page: Any, running: Sample) -> None:
    """Older leads through the whole history; Newest leads back."""
    page.goto(_job_page(JobId(f"{PROJECT}/nightly-fuzzing")))
    seen = page.locator("tbody th a").all_inner_texts()
    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Newest").wait_for()
    page.wait_for_load_state()
    seen += page.locator("tbody th a").all_inner_texts()
    assert len(seen) == len(set(seen)) == 60
    page.get_by_role("link", name="Newest").click()
    page.get_by_role("link", name="Older").wait_for()
    page.wait_for_load_state()
    assert page.locator("tbody th a").all_inner_texts() == seen[:50]


def test_everything_by_keyboard(browser: Any, running: Sample) -> None:
    """Tab, Enter and letter keys pause and resume a job; the focus is visible."""
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto(_job_page(JobId(f"{PROJECT}/win-release")))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for button, reason in (("Pause", "Server room is warm"), ("Resume", "It is cool again")):
        _tab_to(page, f"{button}…")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type(reason)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/win-release?done={button.lower()}")
    job = _job(running, JobId(f"{PROJECT}/win-release"))
    assert (job.paused, job.change_reason) == (False, "It is cool again")
    leave(context)


def test_a_row_by_keyboard(browser: Any, running: Sample) -> None:
    """Tab leads through a row's actions, whose names contain the job; Enter triggers it or opens the form."""
    context = browser.new_context(base_url=running.url, viewport={"width": 360, "height": 700})
    page = context.new_page()
    before = running.newest(JOB).id
    page.goto(_PROJECT)
    _tab_to(page, "Trigger linux-tests", by="aria-label")
    assert page.evaluate(_FOCUS_IS_SEEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**?done=trigger&job=linux-tests")
    started = until(lambda: running.newest(JOB) if running.newest(JOB).id != before else None)
    assert started.triggered_by == "user:dev@localhost"
    _tab_to(page, "Pause… linux-tests", by="aria-label")
    assert page.evaluate(_FOCUS_IS_SEEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/linux-tests#pause-reason")
    page.get_by_label("Why are you pausing it?").wait_for()
    until(lambda: page.evaluate("document.activeElement.id") == "pause-reason")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    until(lambda: running.newest(JOB).status.is_final)
    leave(context)


def test_only_visible_changes_renew_a_region(browser: Any, running: Sample) -> None:
    """Each load gives forms new keys; a region is replaced only after a visible change."""
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    first = page.request.get(f"{_PROJECT}?done=trigger").text()
    loads = [first, first.replace('name="key" value="', 'name="key" value="new-'), first.replace("cleanup", "clean-up")]
    assert len(set(loads)) == 3
    page.route(
        "**/jobs/**",
        lambda route: route.fulfill(body=loads.pop(0) if loads[1:] else loads[0], content_type="text/html"),
    )
    page.goto(f"{_PROJECT}?done=trigger")
    page.evaluate(
        "window.renewals = 0;"
        "new MutationObserver(() => renewals++).observe(document.querySelector('main'), {childList: true})"
    )
    until(lambda: page.get_by_role("link", name="clean-up", exact=True).count())
    assert page.evaluate("window.renewals") == 1
    assert page.locator("input[name=key]").first.input_value().startswith("web-")
    leave(context)


def test_an_invocation_by_keyboard(browser: Any, running: Sample) -> None:
    """Tab, Enter and letter keys trigger, abort one, run again and abort all, and each has its effect."""
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto(_job_page(ALONE))
    _press(page, "Trigger", "trigger")
    first = until(lambda: running.running(ALONE))
    assert first.triggered_by == "user:dev@localhost"
    path = address("jobs", *ALONE.split("/"), str(first.id))
    page.goto(path)
    _press(page, "Abort…")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "reason"
    page.keyboard.type("by hand")
    _press(page, "Abort", "abort", from_here=True)
    until(lambda: _twin(page, path)["final"])
    assert _twin(page, path)["status"] == "ABORTED"
    page.goto(path)
    assert "Abort requested by dev@localhost: by hand" in page.locator("main").inner_text()
    _press(page, "Run again", "rerun")
    again = until(lambda: running.running(ALONE))
    assert again.id != first.id
    assert [trigger.id.startswith(f"rerun:{first.id}:") for trigger in again.incoming_triggers] == [True]
    page.goto(_job_page(ALONE))
    assert _twin(page, _job_page(ALONE))["active_invocations"] == [str(again.id)]
    _press(page, "Abort all…")
    page.keyboard.press("Tab")
    page.keyboard.type("all by hand")
    _press(page, "Abort all", "abort", from_here=True)
    until(lambda: running.is_idle(ALONE))
    job = _twin(page, _job_page(ALONE))
    assert (job["active_invocations"], job["pending_triggers"]) == ([], [])
    assert [item["status"] for item in job["invocations"][:2]] == ["ABORTED", "ABORTED"]
    assert running.newest(ALONE).abort_reason == "all by hand"
    leave(context)


def test_a_backfill_by_keyboard(browser: Any, running: Sample) -> None:
    """The form is filled in, previewed and sent by keyboard; only the sent form has an effect."""
    first, second = running.commit(announced=False), running.commit(announced=False)
    until(lambda: running.is_idle(JOB))
    before = running.newest(JOB).id
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto(_job_page(JOB))
    _press(page, "Backfill…")
    page.get_by_role("button", name="Preview").wait_for()
    for name, revision in (("from", first), ("to", second)):
        _tab_to(page, name, by="name")
        assert page.evaluate(_FOCUS_IS_SEEN)
        page.keyboard.type(revision)
    _press(page, "Preview", from_here=True)
    page.get_by_role("button", name="Emit 1 trigger").wait_for()
    assert page.locator(".commits code").all_inner_texts() == [second[:8]]
    assert running.newest(JOB).id == before
    _press(page, "Emit 1 trigger", "backfill")
    assert page.get_by_role("status").inner_text().startswith("The backfill's triggers were emitted.")
    started = until(lambda: running.newest(JOB) if running.newest(JOB).id != before else None)
    until(lambda: running.newest(JOB).status.is_final)
    invocation = _twin(page, address("jobs", *JOB.split("/"), str(started.id)))
    assert invocation["status"] == "SUCCEEDED"
    (trigger,) = started.incoming_triggers
    assert (trigger.payload["revision"], trigger.emitted_by_user) == (second, "user:dev@localhost")
    assert _twin(page, _job_page(JOB))["invocations"][1]["invocation_id"] == str(before)
    leave(context)


def _twin(page: Any, path: str) -> Any:
    """Return a page's JSON twin as the caller gets it."""
    return page.request.get(f"{path}?format=json").json()


def _press(page: Any, button: str, done: str = "", *, from_here: bool = False) -> None:
    """Tab to a button (``from_here``: the next one), press Enter, and wait for the page with ``done``."""
    if from_here:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent.trim()") == button
    else:
        _tab_to(page, button)
    assert page.evaluate(_FOCUS_IS_SEEN)
    page.keyboard.press("Enter")
    if done:
        page.wait_for_url(f"**?done={done}")


def _tab_to(page: Any, text: str, *, by: str = "") -> None:
    """Press Tab until the focused element has this text, or (``by``) this attribute."""
    page.evaluate("document.activeElement.blur(); document.body.focus()")
    name = f"document.activeElement.getAttribute('{by}')" if by else "document.activeElement.textContent.trim()"
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(name) == text:
            return
    raise AssertionError(f"Tab does not lead to {text}")


_FOCUS_IS_SEEN = """() => {
  const [style, box] = [getComputedStyle(document.activeElement), document.activeElement.getBoundingClientRect()];
  const visible = style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2;
  return visible && box.top >= 0 && box.bottom <= innerHeight;
}"""
"""Return whether the focused element is marked and inside the window."""


def test_an_open_log_grows(browser: Any, running: Sample) -> None:
    """New lines and the end appear without a reload, in a region that screen readers announce."""
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto(_job_page(ALONE))
    page.get_by_role("button", name="Trigger").click()
    invocation = until(lambda: running.running(ALONE))
    page.goto(address("jobs", *ALONE.split("/"), str(invocation.id)))
    page.evaluate("window.stillTheSamePage = true")
    assert page.locator("#live-log").get_attribute("aria-live") == "polite"
    # The page's policy allows no evaluated text during a wait, so the test polls.
    log = page.locator("#live-log")
    before = log.inner_text().count("Handling timer")
    until(lambda: log.inner_text().count("Handling timer") > before)
    assert page.evaluate("window.stillTheSamePage") is True
    page.locator("summary", has_text="Abort").click()
    page.get_by_role("button", name="Abort", exact=True).click()
    page.wait_for_url("**?done=abort")
    page.evaluate("window.stillTheSamePage = true")
    until(lambda: "ABORTED" in page.locator("#live-facts").inner_text())
    assert page.evaluate("window.stillTheSamePage") is True
    assert "with status ABORTED" in log.inner_text()
    page.get_by_text("The log is complete.").wait_for()
    leave(context)


def _everything(running: Sample) -> dict[str, str]:
    return {
        **addresses(running),
        "grid-choice": address("grid", PROJECT),
        "ask": "/commits",
        "bad": "/commits?repo=x&revision=y",
        "none": "/jobs/none",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, running: Sample, scheme: str) -> None:
    """Axe finds nothing on any page, with everything unfolded, in light and dark."""
    source = axe_source()
    context = browser.new_context(base_url=running.url, color_scheme=scheme)
    page = context.new_page()
    found: dict[str, list[str]] = {}
    for name, path in _everything(running).items():
        page.goto(path)
        for summary in page.locator("summary").all():
            summary.click()
        found[name] = violations(page, source)
    leave(context)
    assert {name: faults for name, faults in found.items() if faults} == {}


_CUT = """() => [document.documentElement, ...document.querySelectorAll("main .scroll, main td, main th[scope=row]")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.outerHTML.slice(0, 100))"""
"""Return the elements that are wider than their boxes."""
_FLAT = """() => [...document.querySelectorAll("main .stack td")]
  .filter((cell) => getComputedStyle(cell).display === "block" && cell.offsetHeight < 16)
  .map((cell) => cell.outerHTML)"""
"""Return the cells of cards that are lower than their labels, which would cover each other."""


def test_no_width_cuts_a_page(browser: Any, running: Sample) -> None:
    """No page or table needs horizontal scrolling, from a small phone to a wide screen."""
    context = browser.new_context(base_url=running.url, viewport={"width": 320, "height": 780})
    page = context.new_page()
    for name, path in _everything(running).items():
        page.goto(path)
        for width in (320, 360, 705, 1000, 1025, 1280, 1600):
            page.set_viewport_size({"width": width, "height": 780})
            assert page.evaluate(_CUT) == [], (name, width)
            assert page.evaluate(_FLAT) == [], (name, width)
    leave(context)


def test_lists_are_filtered(page: Any, running: Sample) -> None:
    """The filters of a project's jobs and of a job's history show what their counts and names say."""
    page.goto(_PROJECT)
    page.get_by_role("navigation", name="Filter").get_by_role("link", name="Waiting").click()
    page.wait_for_url("**?filter=waiting")
    assert set(page.locator("tbody td[data-name=State] .label").all_inner_texts()) == {"WAITING"}
    page.goto(_job_page(JobId(f"{PROJECT}/nightly-fuzzing")))
    page.get_by_role("navigation", name="Filter").get_by_role("link", name="Failed").click()
    page.wait_for_url("**?result=failed")
    results = page.locator("tbody td[data-name=Result] .label").all_inner_texts()
    assert set(results) == {"FAILED"}
    assert f"({len(results)} failed)" in page.locator("#past").inner_text()


def test_the_title_and_the_facts_follow_the_job(browser: Any, running: Sample) -> None:
    """An open page shows the new state in its tab and the new invocation in its list, without a reload."""
    context = browser.new_context(base_url=running.url)
    page = context.new_page()
    page.goto(_job_page(ALONE))
    page.get_by_role("button", name="Trigger").click()
    page.wait_for_url("**?done=trigger")
    page.evaluate("window.stillTheSamePage = true")
    until(lambda: page.title().startswith("RUNNING"))
    assert page.evaluate("window.stillTheSamePage") is True
    facts = page.locator("#live-facts")
    assert "RUNNING" in facts.inner_text()
    assert page.locator("[aria-labelledby=active] tbody tr").count() == 1
    page.get_by_text("Abort all…").wait_for()
    leave(context)
    _abort_alone(running, browser)


def _abort_alone(running: Sample, browser: Any) -> None:
    page = browser.new_page(base_url=running.url)
    _abort_all(page, running, ALONE)
    leave(page.context)


_BROKEN_WORDS = """all => all.flatMap(one => [...one.textContent.matchAll(/\\S+/g)].filter(word => {
    const range = document.createRange();
    range.setStart(one.firstChild, word.index);
    range.setEnd(one.firstChild, word.index + word[0].length);
    return range.getClientRects().length > 1;
}).map(word => word[0]))"""
"""Returns the words of elements that take more than one line."""


def test_a_phone_shows_the_whole_start_page(browser: Any, running: Sample) -> None:
    """Repository addresses are long, and a pattern of branches adds a second form."""
    config = running.cloud.configs / "patterns" / "luci-scheduler.cfg"
    config.parent.mkdir()
    gitiles = f'gitiles {{ repo: "{REPO}" refs: "regexp:refs/heads/release-.*" }}'
    trigger = f'trigger {{ id: "releases" schedule: "triggered" triggers: "job" {gitiles} }}'
    config.write_text(f'{trigger} job {{ id: "job" noop {{}} }}', encoding="utf-8")
    context = browser.new_context(viewport={"width": 360, "height": 780})
    with StartPage(running.cloud) as start:
        page = context.new_page()
        page.goto(start.url)
        assert page.locator("form", has=page.locator("select")).count() == 2
        for width in (1600, 1200, 320, 360):
            page.set_viewport_size({"width": width, "height": 780})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            lines = page.locator("td .muted, td .label").evaluate_all(
                "all => all.map(one => one.getClientRects().length)"
            )
            assert set(lines) == {1}, f"a word is broken at {width}"
            assert page.locator("td:first-child").evaluate_all(_BROKEN_WORDS) == [], f"at {width}"
        # A new entry of the feed appears in the open page.
        running.cloud.feed.post("failure", "an entry <b>now</b>", f"{running.url}/somewhere")
        entry = page.get_by_role("link", name="an entry <b>now</b>")
        entry.wait_for()
        assert entry.get_attribute("href") == f"{running.url}/somewhere"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page, axe_source()) == []
    leave(context)
    config.unlink()


def _status(running: Sample, job_id: JobId, invocation_id: Any) -> Status:
    found = running.store.invocation(job_id, invocation_id)
    assert found is not None
    return found.value.status
