"""Cloud Build and GitHub in a local cloud: the settings and links of functions, and the lines of the feed."""

from __future__ import annotations

import json
from pathlib import Path

from emulator.buildbucket.testing import MemoryPublisher
from emulator.builds.sources import Sources
from emulator.clock import RealClock
from emulator.cloud_build import Build, Place, RunSteps
from emulator.cloud_build.server import CloudBuildServer
from emulator.feed import Feed
from emulator.github.deliveries import Delivery
from emulator.github.server import GitHubServer
from emulator.optional_servers import OptionalServers, _plan, _say_build, _say_failure
from emulator.options import Options

OPTIONS = Options(project="local-1234", check_interval_seconds=7)


def test_a_local_cloud_without_the_servers() -> None:
    """Nothing is set."""
    none = OptionalServers()
    assert (none.settings(OPTIONS, lambda _, url: url), none.links({}), none.export_state({})) == ({}, {}, {})
    none.import_state({"cloud_build": {}, "github_statuses": [{}]})
    none.send_webhooks_to("http://127.0.0.1:9")
    none.know_console("http://127.0.0.1:9")
    none.reset()


def test_the_settings_of_functions(tmp_path: Path) -> None:
    """Functions reach both servers at the addresses that the interceptor chooses."""
    build, github = CloudBuildServer(RealClock(), MemoryPublisher()), GitHubServer(tmp_path)
    build.start()
    github.start()
    try:
        both = OptionalServers(build, github, "secret" * 3)
        found = both.settings(OPTIONS, lambda name, url: f"{url}/{name}")
        assert found["SCHEDULER_CLOUD_BUILD"] == found["SCHEDULER_GITHUB_STATUSES"] == "true"
        assert found["SCHEDULER_CLOUD_BUILD_URL"] == f"{build.url}/cloud_build"
        assert found["SCHEDULER_CLOUD_BUILD_CHECK_INTERVAL_SECONDS"] == "7"
        host = {"kind": "github", "api": f"{github.url}/github"}
        assert json.loads(found["SCHEDULER_COMMIT_HOSTS"]) == {"github.com": host}
        assert found["SCHEDULER_COMMIT_TOPIC"] == "projects/local-1234/topics/gitiles-commit"
        both.send_webhooks_to("http://127.0.0.1:9/")
        assert github.webhook is not None
        assert (github.webhook.url, github.webhook.secret) == ("http://127.0.0.1:9/github", "secret" * 3)
        assert found["SCHEDULER_GITHUB_WEBHOOK_SECRETS"] == github.webhook.secret
        assert "secret" not in repr(github.webhook)
        assert both.links({"cloud_build": {"urls": [build.url]}}) == {"https://github.com/": f"{github.url}/"}
    finally:
        build.stop()
        github.stop()


def test_what_builds_of_cloud_build_run(tmp_path: Path) -> None:
    """Their steps if they may, else the command of all builds, else nothing."""
    sources = Sources(tmp_path, lambda host, _project: host)
    assert _plan(Options(), sources) is None
    assert _plan(Options(build="make"), sources) == RunSteps(sources, "make")
    assert _plan(Options(build="make", run_steps=True), sources) == RunSteps(sources)


def test_the_lines_of_builds() -> None:
    """A build of the scheduler has its job's name; a failure has its reason, and a build without a start no seconds."""
    feed = Feed(lambda: 0)
    body = {"id": "0123456789", "status": "WORKING", "startTime": "2026-03-17T14:05:11Z"}
    ours = {**body, "substitutions": {"_SCHEDULER_JOB": "a/b", "_REVISION": "f" * 40, "_SCHEDULER_INVOCATION": "12"}}
    over = {**ours, "status": "FAILURE", "finishTime": "2026-03-17T14:05:12.5Z", "statusDetail": "step 0\nfailed"}
    expired = {"id": "0123456789", "status": "EXPIRED", "finishTime": "2026-03-17T14:05:12Z"}
    for one in (body, ours, over, expired):
        _say_build(feed, lambda: "http://h", Build(Place("p", "l"), 1, 0, one))
    entries = feed.after(0)
    assert [(entry.kind, entry.text) for entry in entries] == [
        ("build_started", "build 01234567 started in Cloud Build"),
        ("build_started", "a/b at ffffffffffff started in Cloud Build"),
        ("failure", "a/b at ffffffffffff FAILURE after 1.5 s: step 0 failed"),
        ("failure", "build 01234567 EXPIRED after 0.0 s"),
    ]
    assert {entry.link for entry in entries} == {"http://h/builds/0123456789"}
    assert entries[2].fields["invocation"] == "12"


def test_the_lines_of_webhooks() -> None:
    """Only a webhook that was not accepted has a line."""
    feed = Feed(lambda: 0)
    for status, answer in ((200, "OK"), (401, "UNAUTHORIZED"), (0, "ConnectTimeout")):
        _say_failure(feed, Delivery("id", "push", "http://h", 1, "{}", status, answer))
    assert [entry.text for entry in feed.after(0)] == [
        "the webhook id of GitHub was not accepted (401 UNAUTHORIZED); polls find its commits",
        "the webhook id of GitHub was not accepted (ConnectTimeout); polls find its commits",
    ]
