"""The whole system on the official emulators, the functions as processes of the functions framework."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from emulator.buildbucket.plans import End, Script, Start
from emulator.local_cloud import BUILDBUCKET_HOST, LocalCloud
from luci_scheduler.core.instants import MILLISECOND

pytestmark = [pytest.mark.emulators, pytest.mark.timeout(180)]

REPO = "https://r.googlesource.com/repo"
MAIN = "refs/heads/main"


def _wait(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"nothing after {seconds} s")


def _config(jobs: int) -> str:
    names = [f"job{number}" for number in range(jobs)]
    triggers = " ".join(f'triggers: "{name}"' for name in names)
    task = f'server: "{BUILDBUCKET_HOST}" bucket: "ci"'
    return f'trigger {{ id: "poller" gitiles {{ repo: "{REPO}" refs: "{MAIN}" }} {triggers} }}\n' + "\n".join(
        f'job {{ id: "{name}" buildbucket {{ {task} builder: "{name}" }} }}' for name in names
    )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A local cloud; each test has a project of jobs of its own."""
    folder = tmp_path_factory.mktemp("configs")
    for project in ("burst", "thrice", "bad", "many"):
        (folder / project).mkdir()
        text = _config(12 if project == "many" else 1).replace(REPO, f"{REPO}-{project}")
        (folder / project / "luci-scheduler.cfg").write_text(text, encoding="utf-8")
    plan = Script((Start(50 * MILLISECOND), End(200 * MILLISECOND)))
    short = {"REQUEST_DEADLINE": 4, "CLAIM_LEASE": 5, "SWEEP_GRACE": 2}
    settings = {f"SCHEDULER_{name}_SECONDS": str(seconds) for name, seconds in short.items()}
    settings["SCHEDULER_COMMIT_WAIT_SECONDS"] = "0"  # the commits are made up
    with LocalCloud(folder, check_interval_seconds=2, plan=plan, settings=settings, sweep_seconds=3) as started:
        _wait(lambda: all(started.page(f"jobs/{p}/job0") for p in ("burst", "thrice", "bad", "many")))
        yield started


def _invocations(cloud: LocalCloud, job: str) -> list[dict[str, Any]]:
    listed = cloud.page(f"jobs/{job}")["invocations"]
    return [cloud.page(f"jobs/{job}/{item['invocation_id']}") for item in listed]


def _all_ended(cloud: LocalCloud, job: str, triggers: int) -> list[dict[str, Any]] | None:
    page = cloud.page(f"jobs/{job}")
    if not page or page["active_invocations"] or not page["invocations"]:
        return None
    found = _invocations(cloud, job)
    done = sum(len(item["incoming_triggers"]) for item in found)
    return found if done >= triggers and all(item["final"] for item in found) else None


def _builds(cloud: LocalCloud, job: str) -> list[str]:
    """Return the request IDs of a job's builds: one build each, or a build was made twice."""
    found = [dict(build.spec.tags) for build in cloud.buildbucket.builds.newest_first()]
    return [tags["scheduler_invocation_id"] for tags in found if tags["scheduler_job_id"] == job]


def test_sixty_commits_within_a_second(cloud: LocalCloud) -> None:
    """Each commit is in exactly one invocation, each invocation has one build, and all succeed."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: cloud.publish_commit(f"{REPO}-burst", MAIN, f"{n:040x}"), range(60)))
    found = _wait(lambda: _all_ended(cloud, "burst/job0", 60))
    triggers = [trigger["id"] for item in found for trigger in item["incoming_triggers"]]
    assert len(triggers) == len(set(triggers)) == 60
    assert {item["status"] for item in found} == {"SUCCEEDED"}
    assert sorted(_builds(cloud, "burst/job0")) == sorted(item["invocation_id"] for item in found)


def test_one_commit_for_many_jobs(cloud: LocalCloud) -> None:
    """Every watching job gets its build."""
    cloud.publish_commit(f"{REPO}-many", MAIN, "e" * 40)
    for number in range(12):
        (item,) = _wait(lambda number=number: _all_ended(cloud, f"many/job{number}", 1))
        assert item["status"] == "SUCCEEDED"
        assert _builds(cloud, f"many/job{number}") == [item["invocation_id"]]


def _push(cloud: LocalCloud, function: str, topic: str, body: Any) -> requests.Response:
    url = f"{cloud.functions[function].url}/projects/p/topics/{topic}"
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            url,
            data=body if isinstance(body, bytes) else json.dumps(body),
            timeout=30,
            headers={"Content-Type": "application/json"},
        )


def _message(data: bytes, message_id: str, attributes: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "message": {
            "data": base64.b64encode(data).decode(),
            "attributes": attributes or {},
            "messageId": message_id,
            "publishTime": "2026-03-01T00:00:00Z",
        },
        "subscription": "projects/p/subscriptions/s",
    }


def test_every_delivery_three_times_in_parallel(cloud: LocalCloud) -> None:
    """The same message, pushed three times at once, makes one build."""
    event = json.dumps({"repo": f"{REPO}-thrice", "ref": MAIN, "revision": "c" * 40}).encode()
    with ThreadPoolExecutor(3) as pool:
        codes = list(
            pool.map(
                lambda _: _push(cloud, "on_gitiles_commit", "gitiles-commit", _message(event, "m-1")).status_code,
                range(3),
            )
        )
    assert set(codes) <= {200, 409}
    (item,) = _wait(lambda: _all_ended(cloud, "thrice/job0", 1))
    assert _builds(cloud, "thrice/job0") == [item["invocation_id"]]
    assert item["debug_log"].count("Starting the invocation") == 1
    assert item["debug_log"].count("Invocation finished") == 1


BAD_COMMITS = [
    b"",
    b"not json",
    b"[]",
    b"{}",
    b'{"repo": 1, "ref": "refs/heads/main", "revision": "x"}',
    b'{"repo": "https://r.googlesource.com/x", "ref": "main", "revision": "' + b"a" * 40 + b'"}',
    b'{"repo": "https://r.googlesource.com/x", "ref": "refs/heads/main", "revision": "HEAD"}',
    b'{"repo": "http://evil.example.com/x", "ref": "refs/heads/main", "revision": "' + b"a" * 40 + b'"}',
    b'{"repo": "https://r.googlesource.com/x", "ref": "refs/heads/main", "revision": "' + b"a" * 40 + b'", "extra": 1}',
    b"[" * 100_000,
    b'"' + b"x" * 70_000 + b'"',
]


@pytest.mark.parametrize("data", BAD_COMMITS, ids=range(len(BAD_COMMITS)))
def test_malformed_commits_are_refused(cloud: LocalCloud, data: bytes) -> None:
    """400 until the dead-letter topic has it, one structured line, and no traceback."""
    before = len(cloud.functions["on_gitiles_commit"].output.lines)
    answer = _push(cloud, "on_gitiles_commit", "gitiles-commit", _message(data, "bad"))
    assert answer.status_code == 400
    _wait(lambda: len(cloud.functions["on_gitiles_commit"].output.lines) > before)
    lines = cloud.functions["on_gitiles_commit"].output.lines[before:]
    assert any(
        json.loads(line)["message"] in ("malformed", "refused_by_framework") for line in lines if line.startswith("{")
    )
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"message": 1}', b'{"subscription": "s"}'])
def test_malformed_envelopes_are_refused(cloud: LocalCloud, body: bytes) -> None:
    """What is no Pub/Sub message at all gets a client error, never a success."""
    assert 400 <= _push(cloud, "on_gitiles_commit", "gitiles-commit", body).status_code < 500


@pytest.mark.parametrize(
    "message",
    [
        _message(b"{}", "n1"),
        _message(b"{}", "n2", {"auth_token": "forged"}),
        _message(b"{}", "n3", {"auth_token": "A" * 5000}),
        _message(b'{"userData": "Zm9yZ2Vk"}', "n4"),
        _message(b"not json", "n5"),
    ],
    ids=range(5),
)
def test_forged_notifications_are_acknowledged_and_change_nothing(cloud: LocalCloud, message: Any) -> None:
    """A notification without a good token is logged and acknowledged: redelivering it would not help."""
    assert _push(cloud, "on_build_completion", "builds", message).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nonsense", "Bearer a.b.c", "Basic eDp5"])
def test_tasks_without_a_good_token_are_refused(cloud: LocalCloud, header: str) -> None:
    """Headers of Cloud Tasks prove nothing; without the token of the right account nothing runs."""
    with requests.Session() as session:
        session.trust_env = False
        headers = {"X-CloudTasks-QueueName": "luci-scheduler", "X-CloudTasks-TaskName": "t", "Authorization": header}
        answer = session.post(f"{cloud.functions['on_task'].url}/sweep", json={}, headers=headers, timeout=30)
    assert answer.status_code == 401


def test_pages(cloud: LocalCloud) -> None:
    """The page is there for people and programs; what is not there says so."""
    cloud.publish_commit(f"{REPO}-bad", MAIN, "d" * 40)
    (item,) = _wait(lambda: _all_ended(cloud, "bad/job0", 1))
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{cloud.console_url}/jobs/bad/job0/{item['invocation_id']}", timeout=30)
        assert page.status_code == 200
        assert "Invocation finished in" in page.text
        assert "default-src &#39;none&#39;" not in page.text
        assert "'none'" in page.headers["Content-Security-Policy"]
        for path, code in [("jobs/bad/job0/16", 404), ("jobs/bad/job0/x", 400), ("jobs/no/job", 404), ("x", 404)]:
            assert session.get(f"{cloud.console_url}/{path}", timeout=30).status_code == code
