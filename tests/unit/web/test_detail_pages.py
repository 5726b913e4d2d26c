"""The pages of an invocation and of a commit, and the grid: reasons on top, counts, filters, cells."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.memory.gitiles import MemoryGitiles
from luci_scheduler.core.commit_event import CommitEvent
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.instants import SECOND
from luci_scheduler.engine.abort import abort_invocation
from luci_scheduler.engine.commit import on_commit
from luci_scheduler.ports import BuildbucketError, GitilesError
from tests.unit.api.support import OWNER, STRANGER, world_for
from tests.unit.engine.world import JOB, REPO, World, config
from tests.unit.web.support import Element, Page, Visitor

MAIN = "refs/heads/main"
_SILENT = BuildbucketError("UNAVAILABLE", "HTTP 502: try later", transient=True)
_REFUSED = BuildbucketError("PERMISSION_DENIED", "no right to add builds", transient=False)


def _path(world: World) -> str:
    return f"/jobs/proj/job/{world.invocations()[0].id}"


def _notice(page: Page) -> Element:
    return next(item for item in page.elements if item.attributes.get("class", "").startswith("notice"))


def test_a_failed_build() -> None:
    """The build's own words are at the top, with its commit; the end of the log is in view without a script."""
    gitiles = MemoryGitiles()
    (revision,) = gitiles.push(MAIN, subject="Fix <b>all</b>", author="Ada")
    world = world_for(gitiles=gitiles)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), "k")
    (build,) = world.buildbucket.builds.values()
    build.update(status="FAILURE", summaryMarkdown="2 tests failed:\n- a_test\n- b_test")
    world.notify("n1")
    page = Visitor(world).page(_path(world))
    notice = _notice(page)
    assert notice.attributes["class"] == "notice bad"
    assert "The build failed." in notice.text
    assert "2 tests failed:\n- a_test\n- b_test" in notice.text
    (link,) = [item for child in notice.inside for item in child.inside if item.attributes.get("href")]
    assert (link.text, link.attributes["href"]) == ("Open the build", Visitor(world).json(_path(world))["view_url"])
    assert page.text.index("Fix <b>all</b>") < page.text.index("Started")
    (log,) = page.all("pre", id="live-log")
    (box,) = [item for item in page.all("div") if log in item.inside and item.attributes.get("class") == "tail"]
    assert box.inside[1].attributes == {"id": "log-start"}
    twin = Visitor(world).json(_path(world))
    assert twin["summary"].startswith("2 tests failed:")
    assert (twin["commit"]["subject"], twin["commit"]["author"]) == ("Fix <b>all</b>", "Ada")


def test_attempts_that_failed() -> None:
    """The reason, the number of the attempt and the time of the next one; then why all of them failed."""
    world = world_for()
    world.buildbucket.faults = [_SILENT]
    world.commit()
    notice = _notice(Visitor(world).page(_path(world)))
    assert notice.attributes["class"] == "notice warn"
    assert (
        "Attempt 1 to start the build failed. Next attempt: 2026-03-01 12:00:06 UTC (5 seconds from now)."
        in notice.text
    )
    assert "UNAVAILABLE: HTTP 502: try later" in notice.text
    assert Visitor(world).json(_path(world))["next_attempt"] == "2026-03-01T12:00:06Z"
    world.buildbucket.faults = [_REFUSED, _REFUSED]
    world.tick(5)
    notice = _notice(Visitor(world).page(_path(world)))
    assert "2 attempts to start the build failed. The last one:" in notice.text
    assert "PERMISSION_DENIED: no right to add builds" in notice.text


def test_a_refused_launch_and_an_abort() -> None:
    """A refusal has its reason; an abort its author and reason; a canceled build says so."""
    world = world_for()
    world.buildbucket.faults = [_REFUSED]
    world.commit()
    notice = _notice(Visitor(world).page(_path(world)))
    assert "The build was not started." in notice.text
    assert "PERMISSION_DENIED: no right to add builds" in notice.text
    world = world_for()
    world.commit()
    abort_invocation(world.runtime, JOB, world.invocations()[0].id, f"user:{OWNER}", "k", "too slow")
    assert f"Abort requested by {OWNER}: too slow." in _notice(Visitor(world).page(_path(world))).text
    twin = Visitor(world).json(_path(world))
    assert (twin["abort_requested_by"], twin["abort_reason"]) == (f"user:{OWNER}", "too slow")
    world = world_for()
    world.commit()
    world.finish("CANCELED")
    world.notify("n1")
    assert "The build was canceled outside of the scheduler." in _notice(Visitor(world).page(_path(world))).text


def test_no_reason_without_news() -> None:
    """A running build and a good one without words have no notice."""
    world = world_for()
    world.commit()
    for _ in range(2):
        page = Visitor(world).page(_path(world))
        assert [item for item in page.elements if "notice" in item.attributes.get("class", "")] == []
        world.finish()
        world.notify("n1")


_SIX = ("a", "b", "c", "d", "e", "f")


def _six(gitiles: MemoryGitiles) -> tuple[World, str]:
    """Return a world with six jobs of one commit: three succeeded, one failed, one runs, one waits."""
    world = world_for(config(_SIX), gitiles)
    first, second = gitiles.push(MAIN, subject="First"), gitiles.push(MAIN, subject="Second", diff=[("", "src/x.cc")])
    on_commit(world.runtime, CommitEvent(REPO, MAIN, first[0]), world.clock.now(), "k1")
    builds = dict(world.buildbucket.builds.items())
    for identifier, build in builds.items():
        if build["builder"]["builder"] != "a":
            world.finish("SUCCESS", identifier)
            world.notify(f"n{identifier}", identifier)
    world.clock.advance(SECOND)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, second[0]), world.clock.now(), "k2")
    for identifier, build in dict(world.buildbucket.builds.items()).items():
        name = build["builder"]["builder"]
        if identifier not in builds and name != "b":
            build.update(status="FAILURE" if name == "f" else "SUCCESS", summaryMarkdown="2 tests failed")
            world.notify(f"m{identifier}", identifier)
    return world, second[0]


def _rows(page: Page) -> list[list[str]]:
    return [[" ".join(cell.text.split()) for cell in row.inside] for row in page.all("tr")[1:]]


def test_a_commit_in_many_jobs() -> None:
    """A sentence counts the outcomes, failures come first with their reason, and each badge has its result's color."""
    world, revision = _six(MemoryGitiles())
    path = f"/commits?repo={REPO}&revision={revision}&ref={MAIN}"
    page = Visitor(world).page(path)
    assert "1 failed, 1 running, 1 waiting, 3 succeeded." in page.text
    assert "Second" in page.all("h1")[0].text
    assert "Ada Author" in page.text
    assert "src/x.cc" in page.all("details")[0].text
    rows = _rows(page)
    assert [row[0] for row in rows] == ["FAILED", "RUNNING", "Waiting for invocation", *["SUCCEEDED"] * 3]
    assert [row[1] for row in rows] == ["f", "b", "a", "c", "d", "e"]
    assert rows[0][3] == "2 tests failed"
    colors = [item.attributes["class"] for item in page.all("span") if "label" in item.attributes.get("class", "")]
    assert colors == ["label danger", "label info", "label reason waiting_for_invocation", *["label success"] * 3]
    twin = Visitor(world).json(path)
    assert twin["counts"] == {"failed": 1, "running": 1, "waiting": 1, "succeeded": 3, "skipped": 0}
    assert (twin["commit"]["subject"], twin["commit"]["files"]) == ("Second", ["src/x.cc"])
    assert {item["summary"] for item in twin["jobs"] if item["outcome"] == "failed"} == {"2 tests failed"}


def test_the_outcomes_are_filtered_by_links() -> None:
    """Each group has a link with its count; another value shows all."""
    world, revision = _six(MemoryGitiles())
    visitor = Visitor(world)
    page = visitor.page(f"/commits?repo={REPO}&revision={revision[:8]}")
    (bar,) = page.all("nav", **{"class": "filters"})
    links = {link.text: link.attributes["href"] for link in page.all("a") if "show=" in link.attributes["href"]}
    assert list(links) == ["Failed 1", "Running 1", "Waiting 1", "Succeeded 3", "Skipped 0"]
    assert "All 6" in bar.text
    assert [len(_rows(visitor.page(link))) for link in links.values()] == [1, 1, 1, 3, 0]
    assert "No job has this outcome." in visitor.page(links["Skipped 0"]).text
    assert len(_rows(visitor.page(links["Failed 1"].replace("=failed", "=burning")))) == 6


def _down(_: str) -> None:
    raise GitilesError("UNAVAILABLE", "down", transient=True)


def test_the_page_of_a_commit_without_its_host() -> None:
    """All stored outcomes are shown; the page says what the host answered."""
    gitiles = MemoryGitiles()
    world, revision = _six(gitiles)
    gitiles.before_call = _down
    page = Visitor(world).page(f"/commits?repo={REPO}&revision={revision}")
    assert len(_rows(page)) == 6
    assert "The repository's host did not return the commit: UNAVAILABLE: down" in page.text


def test_the_grid() -> None:
    """A real table with text in each cell; each cell leads to an invocation or an explanation."""
    world, revision = _six(MemoryGitiles())
    visitor = Visitor(world)
    page = visitor.page("/grid/proj")
    (choice,) = [link.attributes["href"] for link in page.all("a") if link.text == f"Show {MAIN}"]
    assert page.all("table") == []
    assert "reads at most about 520 documents" in page.text
    page = visitor.page(choice)
    assert [cell.text for cell in page.all("th", scope="col")] == ["Commit", *_SIX]
    rows = _rows(page)
    assert [[cell.partition(",")[0] for cell in row[1:]] for row in rows] == [
        ["wait", "run", "ok", "ok", "ok", "fail"],
        ["run", "ok", "ok", "ok", "ok", "ok"],
    ]
    assert "Second" in rows[0][0]
    cells = [link for link in page.all("a") if "cell" in link.attributes.get("class", "")]
    assert cells[0].attributes["href"].startswith("/commits?")
    newest = next(iter(world.store.invocations(JobId("proj/f"), 1)))
    assert cells[5].attributes["href"] == f"/jobs/proj/f/{newest.id}"
    assert (cells[5].attributes["class"], cells[5].text) == ("cell danger", f"fail, f, {revision[:8]}: failed")
    twin = visitor.json(choice)
    assert twin["jobs"] == [f"proj/{name}" for name in _SIX]
    assert twin["commits"][0]["cells"][5] == ["FAILED", str(newest.id)]
    assert visitor.page("/jobs/proj").all("a", href="/grid/proj")


@pytest.mark.parametrize(
    ("path", "status", "says", "status_of_stranger"),
    [
        ("/grid/nope", 404, "No such project or no permission to view it", 404),
        (f"/grid/proj?repo={REPO}&ref=main", 400, "ref must be a full ref name", 400),
        (f"/grid/proj?repo={REPO}&ref=refs/heads/x", 400, f"watches refs/heads/x of {REPO}.", 400),
        (f"/grid/proj?repo={REPO}&ref={MAIN}&start=zzz", 200, "did not return the commits: NOT_FOUND", 400),
    ],
)
def test_bad_addresses_of_the_grid(path: str, status: int, says: str, status_of_stranger: int) -> None:
    """The page names the mistake. A stranger sees commits at no address."""
    world, _ = _six(MemoryGitiles())
    answer = Visitor(world).get(path)
    assert (answer.status_code, says in Page(answer.text).text) == (status, True)
    answer = Visitor(world, STRANGER).get(path)
    assert (answer.status_code, Page(answer.text).all("table")) == (status_of_stranger, [])


def test_the_grid_without_its_host() -> None:
    """There are no rows, but a reason."""
    gitiles = MemoryGitiles()
    world, _ = _six(gitiles)
    gitiles.before_call = _down
    page = Visitor(world).page(f"/grid/proj?repo={REPO}&ref={MAIN}")
    assert "did not return the commits: UNAVAILABLE: down" in page.text
    assert _rows(page) == []


def test_the_lists_of_a_page_do_not_grow() -> None:
    """A commit of many files shows the first ones."""
    gitiles = MemoryGitiles()
    files: Any = [("", f"f{number}") for number in range(70)]
    (revision,) = gitiles.push(MAIN, diff=files)
    world = world_for(config(), gitiles)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, revision), world.clock.now(), "k")
    page = Visitor(world).page(f"/commits?repo={REPO}&revision={revision}")
    assert "70 changed files" in page.text
    assert "and 20 more" in page.text
    assert len(page.all("details")[0].text.split()) < 80


def test_the_preview_of_a_backfill() -> None:
    """Subjects and authors, the commits that ran or that the path filter excludes, and the batches of the policy."""
    gitiles = MemoryGitiles()
    first = gitiles.push(MAIN)[0]
    second = gitiles.push(MAIN, subject="Add x", diff=[("", "src/x")])[0]
    docs, last = gitiles.push(MAIN, diff=[("", "docs/x")])[0], gitiles.push(MAIN, diff=[("", "src/y")])[0]
    policy = "triggering_policy { kind: GREEDY_BATCHING max_batch_size: 3 }"
    text = config(policy=policy).replace(f'refs: "{MAIN}"', f'refs: "{MAIN}" path_regexps: "src/.*"')
    world = world_for(text, gitiles)
    on_commit(world.runtime, CommitEvent(REPO, MAIN, second), world.clock.now(), "k")
    world.counted()
    path = f"/backfill/proj/job?repo={REPO}&ref={MAIN}&from={first[:8]}&to=main"
    page = Visitor(world).page(path)
    rows = _rows(page)
    assert [row[0] for row in rows] == [revision[:8] for revision in (second, docs, last)]
    assert rows[0][1:3] == ["Add x", "Ada Author"]
    assert [row[4] for row in rows] == [f"ran already: {second[:8]}", "excluded by path filter", "not run"]
    assert "1 of them ran already" in page.text
    assert "excludes 1 of them; a backfill runs them anyway" in page.text
    assert "Up to 3 commits share an invocation" in page.text
    assert "3 commits need at least 1 invocation." in page.text
    assert world.counted() == "6R/0W/0c"  # the job twice, the watchers, and the trigger of each commit
    form = page.form("/actions/backfillJob/proj/job")
    assert form is not None
    assert (form["from"], form["to"]) == (first, last)
    details = Visitor(world).json(path)["details"]
    assert [(item["invocation_id"] is not None, item["path_filtered"]) for item in details] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert Visitor(world).submit(path, "/actions/backfillJob/proj/job").status_code == 302
    assert len(world.works()) == 1


@pytest.mark.parametrize(
    "path", [f"/commits?repo={REPO}&", f"/backfill/proj/a?repo={REPO}&ref={MAIN}&from=HEAD~1&to=HEAD&"]
)
def test_an_expression_while_the_host_is_down(path: str) -> None:
    """The page says that the host did not answer, instead of a general error, and keeps the form."""
    gitiles = MemoryGitiles()
    world, _ = _six(gitiles)

    def down(_: str) -> None:
        raise GitilesError("UNAVAILABLE", "it is down.", transient=True)

    gitiles.before_call = down
    answer = Visitor(world).get(f"{path}revision=HEAD")
    assert answer.status_code == 503
    assert f"the host of {REPO} did not answer (UNAVAILABLE: it is down.): " in answer.text
    assert REPO in answer.text.partition("<form")[2]


def test_a_commit_of_the_only_repository() -> None:
    """The form needs no repository if the projects watch one."""
    world, revision = _six(MemoryGitiles())
    page = Visitor(world).page(f"/commits?revision={revision}")
    assert len(_rows(page)) == 6
    assert page.all("input", id="repo")[0].attributes["value"] == REPO


def test_the_legend_names_the_events_of_the_timeline() -> None:
    """An invocation without a build has no legend of builds; a failed attempt has a name."""
    world = world_for()
    world.buildbucket.faults = [_SILENT]
    world.commit()
    (legend,) = Visitor(world).page(_path(world)).all("ul", **{"class": "legend"})
    assert legend.text.split("\n")[0].replace(" ", "") == "queuedlaunchedfailedattempt"
