"""The start page of a real local cloud in memory: the button commits, switches inject faults, and time advances."""

import html
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from emulator.buildbucket.builds import Outcome
from emulator.clock import AdjustableClock, RealClock
from emulator.errors import LocalCloudError
from emulator.gitiles.repository import Repository
from emulator.local_cloud import LocalCloud
from emulator.options import Options
from emulator.sample import make_sample
from emulator.start import start_local_cloud
from emulator.start_page import StartPage
from emulator.switches import SWITCHES
from luci_scheduler.core.errors import TransientError
from luci_scheduler.core.instants import HOUR, MINUTE
from tests.waiting import until

JOB = "sample/linux-tests"
ENDED = ("SUCCEEDED", "FAILED", "ABORTED")
WHERE = "https://sample.googlesource.com/engine@refs/heads/main"


@pytest.fixture(name="cloud", scope="module")
def _cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A local cloud in memory with the sample project; sweep and sync run only when a test advances time."""
    folder = tmp_path_factory.mktemp("cloud")
    make_sample(folder / "configs")
    options = Options(
        folder=folder,
        store="memory",
        clock=AdjustableClock(),
        check_interval_seconds=60,
        sweep_seconds=0,
        sync_seconds=0,
    )
    with start_local_cloud(options) as cloud:
        yield cloud


class _Browser:
    """Reads the page, and posts its forms."""

    def __init__(self, page: StartPage) -> None:
        self.url = page.url
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, **headers: str) -> requests.Response:
        return self.session.get(f"{self.url}/", headers=headers, timeout=20)

    def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.get().text)
        assert found
        return found[1]

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> requests.Response:
        data = {"token": self.token(), **form}
        return self.session.post(f"{self.url}{path}", data=data, headers=headers, timeout=20)


@pytest.fixture(name="browser")
def _browser(cloud: LocalCloud) -> Iterator[_Browser]:
    with StartPage(cloud) as page:
        browser = _Browser(page)
        yield browser
        for name in SWITCHES:
            browser.post("/switch", name=name, on="no")
        browser.session.close()


def test_the_page_shows_all_addresses(cloud: LocalCloud, browser: _Browser) -> None:
    """The page links every address, and has a strict content policy."""
    answer = browser.get()
    assert answer.status_code == 200
    assert "run nothing and succeed: --build COMMAND" in answer.text
    for place in (cloud.console_url, cloud.buildbucket.url, cloud.gitiles.url, cloud.cloud_tasks.grpc_address):
        assert place in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def _over(cloud: LocalCloud, browser: _Browser) -> dict[str, Any]:
    """Advance time until no invocation runs, and return the newest invocation."""

    def look() -> Any:
        browser.post("/time", step="1 minute")
        found = cloud.invocations(JOB)
        return found if all(invocation["status"] in ENDED for invocation in found) else None

    return until(look)[0] if cloud.invocations(JOB) else {}


def _committed(cloud: LocalCloud, browser: _Browser) -> Callable[[], str]:
    """Commit while nothing runs; return a function that returns the status of the resulting invocation."""
    _over(cloud, browser)
    before = {invocation["invocation_id"] for invocation in cloud.invocations(JOB)}
    assert "Committed" in browser.post("/commit", where=WHERE).text

    def status() -> str:
        fresh = [found for found in cloud.invocations(JOB) if found["invocation_id"] not in before]
        return str(fresh[0]["status"]) if fresh else ""

    return status


def test_a_commit_becomes_a_build_whose_lost_end_is_found_by_a_check(cloud: LocalCloud, browser: _Browser) -> None:
    """The button commits. Without notifications, a status check finds the end after time has advanced."""
    assert "On: notifications" in browser.post("/switch", name="lose", on="yes").text
    status = _committed(cloud, browser)
    until(lambda: status() == "RUNNING")
    log = _over(cloud, browser)["debug_log"]
    assert status() == "SUCCEEDED"
    assert "Handling timer" in log
    assert "Received PubSub notification" not in log


def test_a_commit_is_made_once_and_leads_to_its_page(cloud: LocalCloud, browser: _Browser) -> None:
    """A reload of the answer commits nothing; the link opens the console's page of the commit."""
    repository = cloud.repository("https://sample.googlesource.com/engine")
    answer = browser.post("/commit", where=WHERE)
    assert [step.status_code for step in answer.history] == [303]
    tip = repository.resolve("refs/heads/main")
    assert tip in answer.text
    link = re.search(r'href="([^"]+)">See the invocations that it starts', answer.text)
    assert link
    page = requests.get(html.unescape(link[1]), timeout=20)
    assert page.status_code == 200
    assert tip in page.text
    assert "Committed" not in browser.get().text
    assert repository.resolve("refs/heads/main") == tip
    _over(cloud, browser)


def test_failing_buildbucket_and_back(cloud: LocalCloud, browser: _Browser) -> None:
    """Launches fail while the switch is on. After it is off and the pause has passed, the build exists."""
    _over(cloud, browser)
    assert "On: Buildbucket answers 502" in browser.post("/switch", name="fail", on="yes").text
    browser.post("/switch", name="slow", on="yes")
    assert [fault.effect for fault in cloud.buildbucket.faults.active()] == ["http", "slow"]
    browser.post("/switch", name="slow", on="no")
    status = _committed(cloud, browser)
    until(lambda: status() == "RETRYING")
    assert "Off: Buildbucket answers 502" in browser.post("/switch", name="fail", on="no").text
    assert cloud.buildbucket.faults.active() == []
    browser.post("/time", step="10 minutes")
    until(lambda: status() in ("RUNNING", "SUCCEEDED"))
    assert "502" in cloud.invocations(JOB)[0]["debug_log"]


def test_time_is_advanced_and_sped_up(cloud: LocalCloud, browser: _Browser) -> None:
    """Time never goes back. The speed can be changed and restored."""
    clock = cloud.clock
    assert isinstance(clock, AdjustableClock)
    before = clock.now()
    assert browser.post("/time", step="1 hour").status_code == 200
    assert clock.now() >= before + HOUR
    assert "and time runs at real speed." in browser.get().text
    assert "Time runs 600 times as fast." in browser.post("/time", speed="600").text
    assert "and time runs 600 times as fast." in browser.get().text
    began = clock.now()
    until(lambda: clock.now() > began + MINUTE)
    assert "Time runs at real speed." in browser.post("/time", speed="1").text
    for form in ({"speed": "7"}, {"speed": "x"}, {"step": "1 year"}, {}):
        assert browser.post("/time", **form).status_code == 400


def test_advancing_a_minute_runs_the_sync_and_the_sweep(cloud: LocalCloud, browser: _Browser) -> None:
    """A step of a minute starts the calls that Cloud Scheduler makes each minute. A shorter step does not."""
    config = cloud.configs / "other" / "luci-scheduler.cfg"
    config.parent.mkdir()
    config.write_text('job { id: "job" noop {} }', encoding="utf-8")
    enqueued: list[str] = []
    task = LocalCloud.task

    def note(cloud: LocalCloud, kind: str) -> None:
        if threading.current_thread().name != "cloud-scheduler":  # which calls each minute of real time
            enqueued.append(kind)
        task(cloud, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalCloud, "task", note)
        assert "not started" in browser.post("/time", step="10 seconds").text
        assert enqueued == []
        assert cloud.page("jobs/other/job") is None
        assert "sweep and sync were started" in browser.post("/time", step="1 minute").text
        assert sorted(enqueued) == ["sweep", "sync"]
    until(lambda: cloud.page("jobs/other/job"))
    config.unlink()
    browser.post("/time", step="1 hour")
    until(lambda: (cloud.page("jobs/other/job") or {}).get("enabled") is False)


def test_a_queue_without_an_answer_is_reported(
    cloud: LocalCloud, browser: _Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time has still advanced."""

    def fail(_cloud: LocalCloud, _kind: str) -> None:
        raise TransientError("the queue is away")

    monkeypatch.setattr(LocalCloud, "task", fail)
    answer = browser.post("/time", step="1 minute")
    assert answer.status_code == 400
    assert "the queue is away" in answer.text


@pytest.fixture(name="patterns", scope="module")
def _patterns(cloud: LocalCloud) -> str:
    """A repository that a project watches by patterns only, as real configs do; one pattern has a path filter."""
    repo = "https://sample.googlesource.com/patterns"
    config = cloud.configs / "real" / "luci-scheduler.cfg"
    config.parent.mkdir()
    config.write_text(
        f"""
        job {{ id: "main" noop {{ sleep_ms: 1 }} }} job {{ id: "release" noop {{ sleep_ms: 1 }} }}
        trigger {{ id: "a" gitiles {{ repo: "{repo}" refs: "regexp:refs/heads/main" path_regexps: "src/.+" }}
                  triggers: "main" }}
        trigger {{ id: "b" gitiles {{ repo: "{repo}" refs: "regexp:refs/heads/release/[0-9]+" }} triggers: "release" }}
        """,
        encoding="utf-8",
    )
    cloud.sync()
    return repo


def test_the_page_commits_to_a_branch_that_matches_a_pattern(
    cloud: LocalCloud, browser: _Browser, patterns: str
) -> None:
    """The list has the pattern of one branch. The user may choose the file, so that a path filter accepts it."""
    where = f"{patterns}@refs/heads/main"
    assert f"<option>{where}</option>" in browser.get().text
    assert "Committed" in browser.post("/commit", where=where, file="doc/x").text
    assert "Committed" in browser.post("/commit", where=where, file="src/x").text
    assert until(lambda: cloud.invocations("real/main"))
    assert len(cloud.invocations("real/main")) == 1


def test_a_new_branch_that_matches_a_pattern_is_listed(cloud: LocalCloud, browser: _Browser, patterns: str) -> None:
    """The pattern and git check the branch; afterwards it is in the list."""
    assert f"<option>{patterns}</option>" in browser.get().text
    for branch in ("other", "release/x", "", "release/1\nM 100644 inline x", "refs/tags/release/1", "../heads/main"):
        answer = browser.post("/commit", repo=patterns, branch=branch)
        assert answer.status_code == 400
        assert "no config watches" in answer.text
    assert browser.post("/commit", repo="https://elsewhere.googlesource.com/x", branch="main").status_code == 400
    assert "Committed" in browser.post("/commit", repo=patterns, branch="release/7").text
    assert until(lambda: cloud.invocations("real/release"))
    assert f"<option>{patterns}@refs/heads/release/7</option>" in browser.get().text


def test_a_branch_name_that_git_rejects_is_refused(cloud: LocalCloud, browser: _Browser) -> None:
    """A pattern may match texts that are not valid branch names."""
    config = cloud.configs / "any" / "luci-scheduler.cfg"
    config.parent.mkdir()
    repo = "https://sample.googlesource.com/any"
    config.write_text(
        'job { id: "j" noop { sleep_ms: 1 } } '
        f'trigger {{ id: "t" gitiles {{ repo: "{repo}" refs: "regexp:refs/heads/(?s:.*)" }} triggers: "j" }}',
        encoding="utf-8",
    )
    for branch in ("a b", "a..b", "-x/../y", "a\nM 100644 inline x", "a\x00b", "x.lock"):
        answer = browser.post("/commit", repo=repo, branch=branch)
        assert answer.status_code == 400
        assert "git does not accept the branch name" in answer.text
    for file in (".git/config", "../x", "/x", "a//b", "a\nD file", "a/"):
        assert browser.post("/commit", repo=repo, branch="main", file=file).status_code == 400


def test_a_folder_without_a_repository_is_an_error(cloud: LocalCloud, browser: _Browser) -> None:
    """The page still works."""
    (cloud.repositories / "sample.googlesource.com" / "patterns2").mkdir(parents=True)
    with pytest.raises(LocalCloudError, match="not a git repository"):
        cloud.repository("https://sample.googlesource.com/patterns2")
    assert browser.get().status_code == 200


@pytest.mark.parametrize("name", ["../../outside", "..", ".git/hooks", "a/../../../outside", "a/./b"])
def test_a_repository_is_in_its_folder(cloud: LocalCloud, browser: _Browser, name: str) -> None:
    """A config of another author may name any path."""
    repo = f"https://sample.googlesource.com/{name}"
    before = sorted(cloud.repositories.parent.rglob("HEAD"))
    with pytest.raises(LocalCloudError, match="not a valid repository name"):
        cloud.repository(repo)
    config = cloud.configs / "outside" / "luci-scheduler.cfg"
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        'job { id: "j" noop { sleep_ms: 1 } } '
        f'trigger {{ id: "t" gitiles {{ repo: "{repo}" refs: "refs/heads/main" }} triggers: "j" }}',
        encoding="utf-8",
    )
    assert browser.post("/commit", where=f"{repo}@refs/heads/main").status_code == 400
    config.unlink()
    assert sorted(cloud.repositories.parent.rglob("HEAD")) == before


def test_other_sites_cannot_use_it(cloud: LocalCloud, browser: _Browser) -> None:
    """A foreign host name or origin, a missing or wrong token, or another method has no effect."""
    assert browser.get(Host="evil.example.com").status_code == 403
    assert browser.get(Host=browser.url.removeprefix("http://").replace("127.0.0.1", "localhost")).status_code == 200
    for headers in ({"Origin": "https://evil.example.com"}, {"Origin": "null"}, {"Host": "evil.example.com"}):
        assert browser.post("/switch", headers, name="fail", on="yes").status_code == 403
    for token in ("", "wrong", "ünï"):
        assert browser.post("/switch", name="fail", on="yes", token=token).status_code == 403
    assert browser.session.get(f"{browser.url}/switch?name=fail&on=yes", timeout=20).status_code == 405
    assert browser.session.get(f"{browser.url}/nothing", timeout=20).status_code == 404
    assert browser.post("/switch", headers={"Origin": browser.url}, name="none", on="yes").status_code == 400
    assert cloud.buildbucket.faults.active() == []


def test_posted_text_is_escaped_and_only_watched_branches_get_commits(browser: _Browser) -> None:
    """No redirect leads elsewhere."""
    answer = browser.post("/commit", where="https://x/<b>@refs/heads/main")
    assert answer.status_code == 400
    assert "no config watches that" in answer.text
    answer = browser.post("/time", step="<b>")
    assert "&lt;b&gt;" in answer.text
    assert "<b>" not in answer.text


def test_with_real_time_the_page_explains_it(cloud: LocalCloud) -> None:
    """With official emulators, time cannot be advanced."""
    with StartPage(replace(cloud, clock=RealClock())) as page:
        browser = _Browser(page)
        assert "--store memory" in browser.get().text
        assert browser.post("/time", step="1 hour").status_code == 400
        browser.session.close()


def test_the_feed_shows_what_has_happened(cloud: LocalCloud, browser: _Browser) -> None:
    """Entries are in the page, newest first. A script gets those after a number, and their texts are escaped."""
    first = cloud.feed.post("note", "an <i>entry</i>", f"{cloud.console_url}/x")
    text = browser.get().text
    assert "an &lt;i&gt;entry&lt;/i&gt;" in text
    assert f'href="{cloud.console_url}/x"' in text
    second = cloud.feed.post("failure", "another")
    news = browser.session.get(f"{browser.url}/feed?after={first.number}", timeout=20).json()
    assert news["last"] == second.number
    assert "another" in news["rows"]
    assert "entry" not in news["rows"]
    page = browser.get().text
    assert page.index("another") < page.index("an &lt;i&gt;entry")
    assert f'data-last="{second.number}"' in page


def test_files_of_the_page(browser: _Browser) -> None:
    """The page shares the console's style sheet. Other files are not served."""
    for name in ("style.css", "icon.svg", "start_page.css", "start_page.js"):
        assert browser.session.get(f"{browser.url}/assets/{name}", timeout=20).status_code == 200
        assert f"/assets/{name}" in browser.get().text
    for name in ("start_page.py", "../cli.py", "%2e%2e/cli.py", "app.js"):
        assert browser.session.get(f"{browser.url}/assets/{name}", timeout=20).status_code == 404


def test_the_button_reads_the_configs(cloud: LocalCloud, browser: _Browser) -> None:
    """The page lists the projects, and the first problem of a config that is not valid."""
    config = cloud.configs / "new" / "luci-scheduler.cfg"
    config.parent.mkdir()
    config.write_text('job { id: "job" noop {} }', encoding="utf-8")
    assert "The configs were read" in browser.post("/configs").text
    assert cloud.page("jobs/new/job") is not None
    assert f'href="{cloud.console_url}/jobs/new"' in browser.get().text
    config.write_text("job {", encoding="utf-8")
    assert "luci-scheduler.cfg:1: " in browser.get().text
    config.unlink()


def test_builds_can_be_made_to_fail(cloud: LocalCloud, browser: _Browser) -> None:
    """The switch takes precedence over every plan; the build says why it failed."""
    browser.post("/switch", name="builds_fail", on="yes")
    status = _committed(cloud, browser)
    until(lambda: browser.post("/time", step="10 seconds") and status() == "FAILED")
    build = next(cloud.buildbucket.builds.newest_first())
    assert (build.status, "start page" in str(build)) == ("FAILURE", True)


def test_builds_can_be_made_to_hang(cloud: LocalCloud, browser: _Browser) -> None:
    """Such a build still runs after a step that ends every other one; off again, the next build ends."""
    browser.post("/switch", name="builds_hang", on="yes")
    status = _committed(cloud, browser)
    until(lambda: status() == "RUNNING")

    def was_checked_twice() -> bool:
        browser.post("/time", step="10 minutes")
        return cloud.invocations(JOB)[0]["debug_log"].count("Handling timer") >= 2

    until(was_checked_twice)
    assert status() == "RUNNING"
    browser.post("/switch", name="builds_hang", on="no")
    assert cloud.buildbucket.end_build(next(cloud.buildbucket.builds.newest_first()).id, Outcome("SUCCESS"))
    assert _over(cloud, browser)["status"] == "SUCCEEDED"


def test_gitiles_fails_and_is_slow(cloud: LocalCloud, browser: _Browser) -> None:
    """Off again, it answers at once."""
    url = f"{cloud.gitiles.url_of('sample.googlesource.com')}/engine/+refs?format=JSON"
    cloud.repository("https://sample.googlesource.com/engine")
    browser.post("/switch", name="gitiles_fail", on="yes")
    assert browser.session.get(url, timeout=20).status_code == 503
    browser.post("/switch", name="gitiles_fail", on="no")
    browser.post("/switch", name="gitiles_slow", on="yes")
    assert [fault.effect for fault in cloud.gitiles.faults.active()] == ["slow"]
    browser.post("/switch", name="gitiles_slow", on="no")
    assert browser.session.get(url, timeout=20).status_code == 200


def test_messages_are_lost_and_doubled(cloud: LocalCloud, browser: _Browser) -> None:
    """A lost commit event starts nothing. A doubled one starts one invocation."""
    browser.post("/switch", name="messages_lost", on="yes")
    before = len(cloud.invocations(JOB))
    assert "Committed" in browser.post("/commit", where=WHERE).text
    assert cloud.commit_events.publish("https://sample.googlesource.com/engine", "refs/heads/main", "a" * 40) == ""
    browser.post("/switch", name="messages_lost", on="no")
    browser.post("/switch", name="messages_doubled", on="yes")
    status = _committed(cloud, browser)
    until(status)
    _over(cloud, browser)
    assert status() == "SUCCEEDED"
    assert len(cloud.invocations(JOB)) == before + 1


def test_a_checked_out_branch_is_left_alone(cloud: LocalCloud, browser: _Browser, patterns: str) -> None:
    """A commit under a work tree would look like a change that reverts it."""
    folder = cloud.repositories / "sample.googlesource.com" / "tree"
    tree = Repository.create(folder, bare=False)
    first = tree.commit("First", {"a": "b"})
    config = cloud.configs / "tree" / "luci-scheduler.cfg"
    config.parent.mkdir()
    repo = "https://sample.googlesource.com/tree"
    config.write_text(
        f'job {{ id: "j" noop {{}} }} '
        f'trigger {{ id: "t" gitiles {{ repo: "{repo}" refs: "refs/heads/main" }} triggers: "j" }}',
        encoding="utf-8",
    )
    answer = browser.post("/commit", where=f"{repo}@refs/heads/main")
    assert answer.status_code == 400
    assert f"refs/heads/main is checked out in {folder}: commit there with git" in html.unescape(answer.text)
    assert tree.resolve("refs/heads/main") == first
    # In a repository that is watched in place, no button commits at all.
    assert f"<option>{repo}@refs/heads/main</option>" in browser.get().text
    moved = cloud.configs.parent / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved / ".git", target_is_directory=True)
    page = html.unescape(browser.get().text)
    assert f"{moved} is watched in place, and the local cloud writes nothing into it: commit there with git." in page
    assert f"<option>{repo}" not in page
    config.unlink()


def test_functions_in_memory_cannot_be_killed(cloud: LocalCloud, browser: _Browser) -> None:
    """The page offers it only for processes."""
    assert "Kill on_task" not in browser.get().text
    assert browser.post("/kill", name="on_task").status_code == 400
    assert browser.post("/kill", name="nothing").status_code == 400


def test_functions_that_are_processes_can_be_killed(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button sends the signal to the chosen function."""
    killed: list[str] = []
    monkeypatch.setattr(LocalCloud, "kill", lambda _, name: killed.append(name))
    with StartPage(replace(cloud, memory=None)) as page:
        browser = _Browser(page)
        assert 'value="on_task">Kill on_task</button>' in browser.get().text
        assert "It starts again by itself" in browser.post("/kill", name="on_task").text
        browser.session.close()
    assert killed == ["on_task"]


def test_the_command_that_pushes(cloud: LocalCloud, browser: _Browser) -> None:
    """It names the first watched repository that takes pushes."""
    assert re.search(rf"git push {cloud.gitiles.url}/sample.googlesource.com/\w+ HEAD:main", browser.get().text)
