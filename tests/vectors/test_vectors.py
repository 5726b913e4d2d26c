"""The vectors: every case of every supported file, from ``tests/vectors`` or from the folder ``LUCI_VECTORS``."""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from emulator.clock import SteppedClock
from luci_scheduler.adapters.buildbucket import BuildbucketClient
from luci_scheduler.core import debug_log, go_text, humanized, notification_token, topic_names
from luci_scheduler.core.errors import BadTokenError, PermanentError
from luci_scheduler.core.identifiers import InvocationId, JobId, invocation_created, make_invocation_id, timer_id
from luci_scheduler.core.instants import SECOND, Instant, parse_rfc3339
from luci_scheduler.core.kv_lists import check_kv_list, unpack_kv_list
from luci_scheduler.core.mutation_counter import MutationCounter
from luci_scheduler.core.repo_url import BadRepoUrlError, parse_repo_url
from luci_scheduler.core.request import request_from_triggers
from luci_scheduler.core.trigger import Trigger, sort_key
from luci_scheduler.managers.buildbucket.build_request import BuildRequest
from luci_scheduler.managers.buildbucket.builder_id import builder_id
from luci_scheduler.managers.buildbucket.v1 import V1Client
from luci_scheduler.managers.buildbucket.v2 import V2Client
from tests.vectors.support import Case, cases, era


@pytest.mark.parametrize("case", cases("invocation_ids"))
def test_vector_invocation_ids(case: Case) -> None:
    """An invocation's ID holds its creation and suffix, and both can be read back."""
    created, suffix = parse_rfc3339(case["created"]), case["random_suffix"]
    identifier = InvocationId(int(case["id"]))
    assert make_invocation_id(created, suffix) == identifier
    assert invocation_created(identifier) == (created, suffix)


@pytest.mark.parametrize("case", cases("timer_ids"))
def test_vector_timer_ids(case: Case) -> None:
    """A timer's ID names job, invocation, mutation and index."""
    invocation_id = InvocationId(int(case["invocation_id"]))
    assert timer_id(JobId(case["job_id"]), invocation_id, case["mutations_count"], case["index"]) == case["timer_id"]


@pytest.mark.parametrize("case", cases("mutation_counter_scenarios"))
def test_vector_mutation_counter_scenarios(case: Case) -> None:
    """The counter rises with every save of a change, and timers are named after it."""
    saves, counts, suffixes = MutationCounter(), [], []
    for step in case["steps"]:
        if step in ("add_timer", "timer_add"):
            suffixes.append(saves.timer_id(JobId("p/j"), InvocationId(16)).removeprefix("p/j:16:"))
        elif step not in ("allocate", "mark_aborted_async"):
            saves.save(changed=step != "save_without_changes")
        counts.append(saves.known)
    assert counts == case["expected_counts"]
    assert suffixes == case["expected_timer_suffixes"]


@pytest.mark.parametrize("case", cases("go_duration"))
def test_vector_go_duration(case: Case) -> None:
    """Durations are written as in Go."""
    assert go_text.format_duration(int(case["ns"])) == case["text"]


@pytest.mark.parametrize("case", cases("go_duration_parse"))
def test_vector_go_duration_parse(case: Case) -> None:
    """Durations are read as in Go."""
    if case.get("error"):
        with pytest.raises(ValueError, match="not a duration"):
            go_text.parse_duration(case["text"])
    else:
        assert go_text.parse_duration(case["text"]) == int(case["ns"])


@pytest.mark.parametrize("case", cases("humanised_time"))
def test_vector_humanized_time(case: Case) -> None:
    """Relative times have the original's wording."""
    if "duration_ns" in case:
        duration = int(case["duration_ns"])
        assert humanized.ui_duration(duration) == case["ui_duration_trimmed"] == case["ui_duration"].strip()
    else:
        text = humanized.relative(int(case["diff_ns"]), case["past_label"], case["future_label"])
        assert text == case["text"]


@pytest.mark.parametrize("case", cases("topic_names"))
def test_vector_topic_names(case: Case) -> None:
    """Topics are named after the publisher."""
    names = topic_names.topic_names(case["app_id"], case["manager"], case["publisher"], dev_server=case["dev_server"])
    assert names.topic == case["topic"]
    assert names.subscription == case["subscription"]
    assert names.iam_member == case["iam_member"]
    assert names.push_endpoint == case["push_endpoint"]


@pytest.mark.parametrize("case", cases("pubsub_tokens"))
def test_vector_pubsub_tokens(case: Case) -> None:
    """Tokens have the original's bytes, and are accepted during their lifetime, by the right one of several secrets."""
    issued, expected = parse_rfc3339(case["issued"]), (JobId(case["job"]), InvocationId(int(case["inv"])))
    token = notification_token.make_token(case["secret_utf8"], *expected, issued)
    assert token == case["token"]
    for check in case["validate"]:
        at, secrets = parse_rfc3339(check["at"]), ["newer", case["secret_utf8"]]
        if check["ok"]:
            assert notification_token.verify_token(secrets, token, at) == expected
        else:
            with pytest.raises(BadTokenError, match=check["error_contains"]):
                notification_token.verify_token(secrets, token, at)


@pytest.mark.parametrize("case", cases("pubsub_notification_token"))
def test_vector_pubsub_notification_token(case: Case) -> None:
    """The token is found in the places of both eras."""
    assert notification_token.find_token(case["attributes"], case["data"]) == case["token"]


@pytest.mark.parametrize("case", cases("builder_id"))
def test_vector_builder_id(case: Case) -> None:
    """Project and bucket follow from the bucket field and the realm."""
    given = (case["realm_id"], case["bucket"], case["builder"])
    if case["error_contains"]:
        with pytest.raises(PermanentError) as raised:
            builder_id(*given)
        assert case["error_contains"] in str(raised.value)
    else:
        project, bucket, builder = builder_id(*given)
        assert (f"{project}:{bucket}", builder) == (case["output"], case["builder"])


@pytest.mark.parametrize("case", cases("request_from_trigger"))
def test_vector_request_from_trigger(case: Case) -> None:
    """A request takes properties and tags from its latest trigger."""
    trigger = Trigger("id", Instant(0), case["trigger"]["kind"], case["trigger"]["payload"])
    request = request_from_triggers([trigger], era(case["era"]))
    assert request.properties == case["properties"]
    assert list(request.tags) == case["tags"]
    assert list(request.stored_tags()) == case["stored_tags"]
    assert list(request.log_lines) == case["debug_log_lines"]


@pytest.mark.parametrize("case", cases("trigger_order"))
def test_vector_trigger_order(case: Case) -> None:
    """Triggers are taken oldest first."""
    triggers = [
        Trigger(item["id"], parse_rfc3339(item["created"]), order_in_batch=item["order_in_batch"])
        for item in case["triggers"]
    ]
    assert [trigger.id for trigger in sorted(triggers, key=sort_key)] == case["sorted_ids"]


@pytest.mark.parametrize("case", cases("repo_urls"))
def test_vector_repo_urls(case: Case) -> None:
    """Repository URLs are read and normalized, or refused with the reason."""
    if "error" in case:
        with pytest.raises(BadRepoUrlError) as raised:
            parse_repo_url(case["repo"])
        assert case["error"] in str(raised.value)
    else:
        url = parse_repo_url(case["repo"])
        assert (url.host, url.project, str(url)) == (case["host"], case["project"], case["normalized"])


@pytest.mark.parametrize("case", cases("kv_lists"))
def test_vector_kv_lists(case: Case) -> None:
    """Lists of key:value are checked and unpacked."""
    if case["error"]:
        with pytest.raises(PermanentError) as raised:
            check_kv_list(case["kind"], case["list"], case["sep"])
        assert str(raised.value) == case["error"]
    else:
        check_kv_list(case["kind"], case["list"], case["sep"])
    assert [list(pair) for pair in unpack_kv_list(case["list"], case["sep"])] == case["unpacked"]


@pytest.mark.parametrize("case", cases("debug_log_trimming"))
def test_vector_debug_log_trimming(case: Case) -> None:
    """A huge log is cut as in the original, also if it continues to grow."""
    log = debug_log.trim_bytes(_rendered(case["input"]))
    for part in case.get("then_append_one_by_one", ()):
        log = debug_log.trim_bytes(log + _rendered([part]))
    assert len(log) == case["expected_length"]
    assert hashlib.sha256(log).hexdigest() == case["expected_sha256"]


def _rendered(parts: list[Case]) -> bytes:
    return b"".join(_parts(parts))


def _parts(parts: list[Case]) -> Iterator[bytes]:
    for part in parts:
        if part["t"] == "lines":
            for i in range(part["from"], part["to"]):
                yield f"[22:42:00.000] Line {i} - {'a' * part['junk']}\n".encode()
        else:
            yield part["s"].encode() * part.get("n", 1)


class _Session:
    """Replaces the HTTP session of the Buildbucket client, and keeps the request."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    def request(self, http_method: str, url: str, *, data: bytes, **_options: Any) -> requests.Response:
        self.sent.append((http_method, url, json.loads(data)))
        answer = requests.Response()
        answer.status_code = 200
        answer._content, answer._content_consumed = b"{}", True
        return answer

    def client(self) -> BuildbucketClient:
        session: Any = self
        return BuildbucketClient(lambda host: f"https://{host}", lambda: session, SteppedClock(Instant(0)), SECOND)


def _given(case: Case, realm_id: str) -> BuildRequest:
    request = case["request"]
    return BuildRequest(
        task=case["task"],
        job_id=JobId(case["job_id"]),
        invocation_id=InvocationId(int(case["invocation_id"])),
        realm=realm_id,
        app_id=case["app_id"],
        hostname=case["hostname"],
        topic=case["topic"],
        token="the-token",
        properties=request.get("properties") or {},
        tags=request.get("tags", ()),
        triggers=request.get("incoming_triggers", ()),
    )


@pytest.mark.parametrize("case", cases("buildbucket_v1_requests"))
def test_vector_buildbucket_v1_requests(case: Case) -> None:
    """A v1 request is built and logged byte for byte. The log does not contain its token."""
    lines: list[str] = []
    session, given = _Session(), _given(case, "")
    face = V1Client(session.client())
    body = face.prepare(given, lines.append)
    assert body["parameters_json"] == case["expected"]["parameters_json"]
    assert body["tags"] == case["expected"]["tags"]
    assert lines == case["expected"]["debug_log_bodies"]
    assert session.sent == []
    face.schedule(given, body)
    printed = json.loads(lines[-1].partition("\n")[2])
    printed["pubsub_callback"]["auth_token"] = "the-token"
    assert session.sent == [("PUT", case["expected"]["put_url"], printed)]
    assert "the-token" not in "".join(lines)


@pytest.mark.parametrize("case", cases("buildbucket_v2_requests"))
def test_vector_buildbucket_v2_requests(case: Case) -> None:
    """A v2 request carries builder, commit, tags and properties like today's scheduler."""
    lines: list[str] = []
    session = _Session()
    body = V2Client(session.client()).prepare(_given(case, case["realm_id"]), lines.append)
    expected = case["expected"]
    assert body["requestId"] == expected["request_id"]
    assert body["builder"] == expected["builder"]
    assert body.get("gitilesCommit") == expected["gitiles_commit"]
    assert body["tags"] == expected["tags"]
    assert body["properties"] == expected["properties"]
    assert lines[:-1] == expected["debug_log_bodies"]
    assert session.sent == []
    assert base64.b64decode(body["notify"].pop("userData")) == b"the-token"
    assert lines[-1].startswith("Buildbucket request:\n{")
    assert json.loads(lines[-1].partition("\n")[2]) == body
    assert "the-token" not in "".join(lines)
