"""The calls of the Cloud Build API, and their answers."""

import base64
from collections.abc import Mapping

import pytest

from emulator.cloud_build import Fault, Place, Trigger
from emulator.cloud_build.service import console_url, find_call
from luci_scheduler.core.instants import SECOND
from luci_scheduler.ports import CloudBuildError
from tests.unit.emulator.cloud_build.support import (
    BASE,
    INVOCATION,
    PLACE,
    REVISION,
    Bench,
    is_refusal,
    request,
    sample,
)


def test_a_new_build_is_in_the_first_answer(bench: Bench) -> None:
    """The operation has the members of the sample, and the build as it was requested."""
    answer = bench.call("POST", "/builds", request())
    expected = sample("create-response.json")
    build = answer["metadata"]["build"]
    assert answer.keys() == expected.keys()
    assert answer["metadata"]["@type"] == expected["metadata"]["@type"]
    assert answer["name"].rpartition("/")[0] == expected["name"].rpartition("/")[0]
    assert base64.b64decode(answer["name"].rpartition("/")[2]).decode() == build["id"]
    wanted = expected["metadata"]["build"]
    assert build.keys() == wanted.keys()
    own = ("id", "name", "logUrl")
    assert {name: value for name, value in build.items() if name not in own} == {
        name: value for name, value in wanted.items() if name not in own
    }
    assert bench.get(build["id"]) == build


def test_the_same_request_twice_is_two_builds(bench: Bench) -> None:
    """Nothing in a request identifies it."""
    assert bench.create()["id"] != bench.create()["id"]
    assert len(bench.service.store.by_invocation()[INVOCATION]) == 2


@pytest.mark.parametrize("path", ["/builds/none", "/triggers/none"])
def test_a_missing_resource(bench: Bench, path: str) -> None:
    """The error is that of the sample."""
    with pytest.raises(CloudBuildError) as caught:
        bench.call("GET", path)
    assert is_refusal(caught.value, "get-not-found.http.json")


def test_a_build_is_not_found_in_another_location(bench: Bench) -> None:
    """A region shows only its builds, and so does a project."""
    build_id = bench.create()["id"]
    for other in ("projects/example-project/locations/global", "projects/others/locations/us-central1"):
        with pytest.raises(CloudBuildError, match="NOT_FOUND"):
            bench.port.call("GET", f"/v1/{other}/builds/{build_id}", seconds=10)


@pytest.mark.parametrize(
    ("http_method", "path"),
    [
        ("GET", "/v1/projects/p/builds/x"),  # the old form, without a location
        ("POST", f"{BASE}/builds/x"),
        ("POST", f"{BASE}/builds/x:retry"),
        ("GET", "/v2/projects/p/locations/l/builds"),
        ("GET", f"{BASE}/builds/a/b"),
    ],
)
def test_other_paths_are_none(bench: Bench, http_method: str, path: str) -> None:
    """A front end answers in the service's place."""
    assert find_call(http_method, path) is None
    with pytest.raises(CloudBuildError) as caught:
        bench.port.call(http_method, path, seconds=10)
    assert caught.value.transient


def test_the_account_of_builds_that_name_none(bench: Bench) -> None:
    """The answer has the form of the sample."""
    answer = bench.call("GET", "/defaultServiceAccount")
    wanted = sample("default-service-account.http.json")["response"]["body"]
    number = answer["name"].split("/")[1]
    assert {name: text.replace(number, "123456789012") for name, text in answer.items()} == wanted


def test_the_address_of_a_build_in_the_cloud() -> None:
    """The global location is left out."""
    assert console_url("x", PLACE).startswith(
        "https://console.cloud.google.com/cloud-build/builds;region=us-central1/x?"
    )
    assert console_url("x", Place("p", "global")).startswith("https://console.cloud.google.com/cloud-build/builds/x?")


class TestCancel:
    """A build that has not ended is canceled at once."""

    def test_a_waiting_build(self, bench: Bench) -> None:
        """It has never started, as in the sample."""
        build_id = bench.create()["id"]
        answer = bench.call("POST", f"/builds/{build_id}:cancel", {"projectId": "example-project", "id": build_id})
        assert answer == bench.get(build_id)
        assert answer["status"] == "CANCELLED"
        assert "startTime" not in answer
        assert answer.keys() == sample("get-cancelled-before-start.json").keys()
        assert bench.announced() == ["QUEUED", "CANCELLED"]
        bench.advance(10)
        assert bench.announced() == ["QUEUED", "CANCELLED"]

    def test_a_running_build(self, bench: Bench) -> None:
        """Its first step was canceled, and the others wait."""
        build_id = bench.create()["id"]
        bench.advance(1)
        answer = bench.call("POST", f"/builds/{build_id}:cancel", {})
        assert [step["status"] for step in answer["steps"]] == ["CANCELLED", "QUEUED"]
        assert answer["finishTime"] > answer["startTime"]

    def test_a_finished_build(self, bench: Bench) -> None:
        """The service refuses with the words of the sample."""
        build_id = bench.create()["id"]
        bench.advance(5)
        with pytest.raises(CloudBuildError) as caught:
            bench.call("POST", f"/builds/{build_id}:cancel", {})
        assert is_refusal(caught.value, "cancel-finished.http.json")
        assert bench.get(build_id)["status"] == "SUCCESS"


class TestTriggers:
    """Runs of triggers."""

    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        """A service with the trigger of the samples."""
        shown = sample("trigger-get.json")
        self.trigger = Trigger(
            shown["name"],
            shown["id"],
            "us-central1",
            shown["repositoryEventConfig"]["repository"],
            substitutions=shown["substitutions"],
            tags=("at-$BRANCH_NAME",),
            service_account=shown["serviceAccount"],
        )
        bench.service.triggers.add(self.trigger)
        return bench

    def run(self, bench: Bench, **source: object) -> dict[str, object]:
        """Run the trigger and return the build."""
        body = {"projectId": "example-project", "triggerId": "widget-ci", "source": source}
        build: dict[str, object] = bench.call("POST", "/triggers/widget-ci:run", body)["metadata"]["build"]
        return build

    @pytest.mark.parametrize("name", ["widget-ci", "0d2c6a0e-6f0b-4f3c-9a51-3c6f0f7a2b11"])
    def test_it_is_found_by_name_and_id(self, bench: Bench, name: str) -> None:
        """It has the members of the sample; its build config is inline."""
        shown = bench.call("GET", f"/triggers/{name}")
        wanted = sample("trigger-get.json")
        own = ("resourceName", "createTime", "filename")
        assert {key: shown.get(key) for key in wanted if key not in own} == {
            key: value for key, value in wanted.items() if key not in own
        }

    def test_a_run_at_a_commit(self, bench: Bench) -> None:
        """The build has the trigger's ID, its tag, and the substitutions of trigger, run and commit."""
        sent = sample("run-trigger.http.json")["request"]["body"]
        build = bench.call("POST", "/triggers/widget-ci:run", sent)["metadata"]["build"]
        wanted = sample("run-trigger.http.json")["response"]["body"]["metadata"]["build"]
        for name in ("source", "options", "buildTriggerId", "serviceAccount", "status", "queueTtl"):
            assert build[name] == wanted[name]
        assert build["tags"] == [f"trigger-{self.trigger.id}", "at-main"]
        given = {"_MODE": "fast", **sent["source"]["substitutions"]}
        commit = {"COMMIT_SHA": REVISION, "REVISION_ID": REVISION, "SHORT_SHA": REVISION[:7]}
        assert given.items() <= build["substitutions"].items()
        assert commit.items() <= build["substitutions"].items()

    def test_a_run_at_a_branch(self, bench: Bench) -> None:
        """The service resolves it, and the built-in substitutions name it."""
        bench.service.resolve = lambda repository, ref: f"{repository.rpartition('/')[2]} {ref}"
        values = self.run(bench, branchName="release-1")["substitutions"]
        assert values["COMMIT_SHA"] == "widget refs/heads/release-1"
        assert (values["BRANCH_NAME"], values["REF_NAME"]) == ("release-1", "release-1")

    def test_a_run_at_a_tag(self, bench: Bench) -> None:
        """The tag is no branch."""
        values = self.run(bench, tagName="v1")["substitutions"]
        assert values["TAG_NAME"] == "v1"
        assert "BRANCH_NAME" not in values

    def test_a_run_without_a_revision(self, bench: Bench) -> None:
        """A trigger of a repository needs one, unless it names a ref itself."""
        with pytest.raises(CloudBuildError) as caught:
            self.run(bench)
        assert is_refusal(caught.value, "error-revision-required.http.json")
        bench.service.triggers.add(Trigger("manual", "m", "us-central1"))
        bench.service.triggers.add(Trigger("own", "o", "us-central1", "https://github.com/a/b", ref="refs/heads/main"))
        made = bench.call("POST", "/triggers/manual:run", {})["metadata"]["build"]
        assert "source" not in made
        made = bench.call("POST", "/triggers/own:run", {})["metadata"]["build"]
        assert made["source"] == {"gitSource": {"url": "https://github.com/a/b", "revision": "refs/heads/main"}}

    def test_bad_runs(self, bench: Bench) -> None:
        """The bare message of the old path, several revisions, and a disabled trigger are refused."""
        with pytest.raises(CloudBuildError, match='Unknown name "commitSha"'):
            bench.call("POST", "/triggers/widget-ci:run", {"commitSha": REVISION})
        with pytest.raises(CloudBuildError, match="only one of"):
            self.run(bench, commitSha=REVISION, branchName="main")
        bench.service.triggers.add(Trigger("widget-ci", "w", "us-central1", disabled=True))
        with pytest.raises(CloudBuildError, match="FAILED_PRECONDITION"):
            self.run(bench)

    def test_approval(self, bench: Bench) -> None:
        """The build waits as in the sample, for days; then it is queued."""
        bench.service.triggers.add(Trigger("widget-ci", "w", "us-central1", approval=True))
        waiting = self.run(bench)
        assert (waiting["status"], waiting["approval"]) == (
            "PENDING",
            sample("get-pending-approval.json")["approval"],
        )
        bench.advance(5 * 86_400)
        build_id = str(waiting["id"])
        assert bench.get(build_id)["status"] == "PENDING"
        decision = {"approvalResult": {"decision": "APPROVED"}}
        bench.call("POST", f"/builds/{build_id}:approve", decision)
        with pytest.raises(CloudBuildError, match="does not wait"):
            bench.call("POST", f"/builds/{build_id}:approve", decision)
        bench.advance(5)
        assert bench.get(build_id)["status"] == "SUCCESS"
        assert bench.announced() == ["PENDING", "QUEUED", "WORKING", "SUCCESS"]

    def test_rejection_and_cancellation(self, bench: Bench) -> None:
        """A rejected build is as in the sample; a canceled one says so in its approval."""
        bench.service.triggers.add(Trigger("widget-ci", "w", "us-central1", approval=True))
        build_id, other = (str(self.run(bench)["id"]) for _ in range(2))
        decision = {"approvalResult": {"decision": "REJECTED", "comment": "not today"}}
        bench.call("POST", f"/builds/{build_id}:approve", decision)
        shown, wanted = bench.get(build_id), sample("get-rejected.json")
        assert shown["status"] == wanted["status"]
        assert shown["approval"]["state"] == wanted["approval"]["state"]
        assert shown["approval"]["result"].keys() == wanted["approval"]["result"].keys()
        canceled = bench.call("POST", f"/builds/{other}:cancel", {})
        assert canceled["approval"]["state"] == "CANCELLED"


class TestLists:
    """Lists of builds."""

    LOOK_UP: Mapping[str, str] = {"filter": f'tags="scheduler-invocation-{INVOCATION}"', "pageSize": "20"}

    def test_a_look_up(self, bench: Bench) -> None:
        """An empty list is an empty object; a build is found by its tag."""
        assert bench.call("GET", "/builds", **self.LOOK_UP) == {}
        build = bench.create()
        bench.create(tags=["scheduler-invocation-1"])
        assert bench.call("GET", "/builds", **self.LOOK_UP) == {"builds": [build]}

    def test_pages_are_newest_first(self, bench: Bench) -> None:
        """Each page but the last has a token. Builds of the same instant keep their order."""
        made = []
        for number in range(5):
            made.append(bench.create()["id"])
            bench.clock.advance(SECOND * (number % 2))
        found, token, pages = [], "", 0
        while True:
            answer = bench.call("GET", "/builds", pageSize="2", **({"pageToken": token} if token else {}))
            found += [build["id"] for build in answer["builds"]]
            pages += 1
            if not (token := answer.get("nextPageToken", "")):
                break
        assert (found, pages) == (made[::-1], 3)

    def test_the_lag(self, bench: Bench) -> None:
        """A list shows a build only after the lag; a get shows it at once."""
        bench.service.list_lag = 30 * SECOND
        build = bench.create()
        assert bench.get(build["id"])["id"] == build["id"]
        bench.clock.advance(29 * SECOND)
        assert bench.call("GET", "/builds") == {}
        bench.clock.advance(SECOND)
        assert len(bench.call("GET", "/builds")["builds"]) == 1

    def test_an_empty_page_with_a_token(self, bench: Bench) -> None:
        """The page after it has the builds."""
        bench.create()
        bench.port.faults.add(Fault("empty_page", "list"))
        empty = bench.call("GET", "/builds", **self.LOOK_UP)
        assert empty.keys() == {"nextPageToken"}
        assert len(bench.call("GET", "/builds", pageToken=empty["nextPageToken"], **self.LOOK_UP)["builds"]) == 1

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"pageSize": "1001"}, "page size"),
            ({"pageSize": "x"}, "page size"),
            ({"pageToken": "x"}, "page token"),
            ({"filter": "createTime>1"}, "invalid list filter"),
        ],
    )
    def test_bad_queries(self, bench: Bench, query: dict[str, str], message: str) -> None:
        """They are permanent errors."""
        with pytest.raises(CloudBuildError, match=message) as caught:
            bench.call("GET", "/builds", **query)
        assert caught.value.code == "INVALID_ARGUMENT"


def test_the_ledger_shows_invocations_with_two_builds(bench: Bench) -> None:
    """A canceled build does not count, nor do builds of others."""
    first, second, third = (bench.create() for _ in range(3))
    bench.create(substitutions={"_OTHER": "1"})
    bench.call("POST", f"/builds/{second['id']}:cancel", {})
    assert bench.service.store.doubled() == {}
    bench.advance(5)
    assert {key: [build.id for build in found] for key, found in bench.service.store.doubled().items()} == {
        INVOCATION: [first["id"], third["id"]]
    }
