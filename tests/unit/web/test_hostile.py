"""Pages show hostile text in every field, and none of it becomes active."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest

from luci_scheduler.core.identifiers import JobId, make_invocation_id
from luci_scheduler.core.instants import SECOND, Instant
from luci_scheduler.core.invocation import Invocation, Status, Timer
from luci_scheduler.core.job import Job, JobDefinition, Result, TaskDefinition, TriggeringPolicy
from luci_scheduler.core.poller_record import Backlog, PollerRecord
from luci_scheduler.core.trigger import Trigger
from luci_scheduler.core.trigger_record import TriggerRecord
from luci_scheduler.ports import CreateInvocation, CreateTrigger, PutPoller, PutProject
from luci_scheduler.web.addresses import address
from tests.unit.api.support import ADMIN, Client, put_job, world_for
from tests.unit.engine.world import World
from tests.unit.web.support import Page, Visitor

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</pre></title></textarea><svg onload=alert(1)>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202e\x1b[31m\x00&lt;b&gt;",
]
_TAGS = {
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "span", "main", "footer", "p",
    "h1", "h2", "small", "div", "section", "dl", "dt", "dd", "ul", "ol", "li", "pre", "code", "time", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "form", "input", "label", "button", "details", "summary",
    "figure", "figcaption", "noscript", "svg", "circle", "path", "rect", "line",
}  # fmt: skip
_LINKS = ("/", "?", "#", "https://", "http://")


def _hostile_invocation(job: Job, text: str, now: Instant, trigger: Trigger) -> Invocation:
    return Invocation(
        id=make_invocation_id(now, 1),
        job_id=job.id,
        started=now,
        task=job.definition.task,
        status=Status.RUNNING,
        revision=text,
        revision_url=text,
        triggered_by=f"user:{text}",
        properties={text: text},
        tags=(text,),
        incoming_triggers=(trigger,),
        outgoing_triggers=(trigger,),
        pending_timers=(Timer(text, text, now, Instant(now + SECOND)),),
        abort_requested_by=f"user:{text}",
        abort_reason=text,
        view_url=text,
        summary=text,
        task_data={"build_id": text},
        next_due=now,
    )


def _hostile_world(text: str) -> tuple[World, list[str]]:
    """Return a world with the text in every field that comes from outside, and its pages."""
    world = world_for("")
    now = world.clock.now()
    payload = {"repo": text, "ref": text, "revision": text}
    trigger = Trigger(text, now, "gitiles", payload, title=text, url=text, emitted_by_user=f"user:{text}")
    name = "job"
    definition = JobDefinition(
        TaskDefinition("gitiles", {"repo": text, "refs": [text]}),
        schedule=text,
        policy=TriggeringPolicy(kind=text),
        triggered_jobs=(JobId(f"proj/{text}"),),
        revision=text,
        revision_url=text,
    )
    job = Job(
        JobId(f"proj/{name}"), definition, paused=True, changed_by=f"user:{text}", change_reason=text, changed_when=now,
        recent=(Result(make_invocation_id(now, 2), Status.FAILED, now, now, text, (text,), text, text, text, text),),
    )  # fmt: skip
    put_job(world, job)
    found = world.store.project("proj")
    assert found is not None
    record = replace(
        found.value,
        job_ids=(job.id,),
        revision=text,
        revision_url=text,
        problems=(text, "javascript:alert(1)"),
        warnings=(text,),
    )
    invocation = _hostile_invocation(job, text, now, trigger)
    poller = PollerRecord(job.id, text, {text: text}, (text,), backlog={text: Backlog(text, 1)})
    world.store.commit(
        [
            PutProject(record, found.version),
            CreateInvocation(invocation, f"[12:00:00.000] {text}\n"),
            CreateTrigger(TriggerRecord(job.id, replace(trigger, id=f"pending{text}"))),
            PutPoller(poller, None),
        ]
    )
    asked = {"repo": text, "revision": text, "ref": text, "from": text, "to": text, "c": text}
    pages = ["/", "/jobs/proj", "/jobs/proj/job", f"/jobs/proj/job/{invocation.id}"]
    pages += [address("commits", **asked), address("backfill", "proj", "job", **asked)]
    pages += [f"/jobs/{quote(text)}", f"/jobs/proj/{quote(text)}", f"/jobs/proj/job/{quote(text)}", f"/{quote(text)}"]
    pages += [address("jobs", "proj", filter=text, done="trigger", job=text), address("jobs", "proj", "job", c=text)]
    pages += [address("jobs", "proj", after=text, seen=text), address("jobs", "proj", "job", result=text, seen=text)]
    return world, pages


@pytest.mark.parametrize("text", PAYLOADS)
def test_hostile_text_stays_inert(text: str) -> None:
    """Pages have only our own elements, attributes and addresses; visible text is unchanged."""
    world, paths = _hostile_world(text)
    visitor = Visitor(world, ADMIN)
    for path in paths:
        answer = visitor.get(path)
        assert answer.status_code in (200, 400, 404), path
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        page = Page(answer.text)
        for element in page.elements:
            assert element.tag in _TAGS, (path, element.tag)
            for name, value in element.attributes.items():
                assert not name.startswith("on"), path
                assert name not in ("style", "srcdoc", "autofocus", "formaction"), path
                if name in ("href", "src", "action"):
                    assert value == "" or value.startswith(_LINKS), (path, value)
        for script in page.all("script"):
            assert script.attributes["src"].startswith("/assets/app.js?v=")
            assert script.text == ""
    shown = visitor.page("/jobs/proj/job").text
    assert f"Paused by {text}".replace("\x00", "\ufffd")[:20] in shown.replace("\x00", "\ufffd")


def test_external_links_reveal_nothing() -> None:
    """Links send no referrer and give the other page no handle of our window."""
    world = world_for()
    world.commit()
    identifier = world.invocations()[0].id
    page = Visitor(world).page(f"/jobs/proj/job/{identifier}")
    outside = [link for link in page.all("a") if link.attributes["href"].startswith("http")]
    assert outside
    assert {link.attributes["rel"] for link in outside} == {"noopener noreferrer"}


def test_static_files_are_served_and_cached_by_content() -> None:
    """Style, script and icon are served, and no other file of the folder."""
    world = world_for()
    visitor = Visitor(world)
    page = visitor.page("/")
    loaded = [item.attributes["href"] for item in page.all("link") if item.attributes["rel"] != "alternate"]
    loaded += [item.attributes["src"] for item in page.all("script")]
    assert len(loaded) == 3
    for path in loaded:
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
    assert visitor.get("/assets/..%2Fviews.py").status_code == 404


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]"])
def test_the_local_console_answers_to_loopback_hosts(host: str) -> None:
    """The local cloud accepts any port. Elsewhere callers prove their identity, so the host does not matter."""
    assert _codes(Client(world_for(local=True)), host) == [200, 200, 200]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:8080",
        "localhost.evil.example.com",
        "127.0.0.1.evil.example.com:80",
        "127.0.0.2",
    ],
)
def test_the_local_console_refuses_rebound_host_names(host: str) -> None:
    """There every caller is an administrator, so pages and API refuse requests from pages of other sites."""
    client = Client(world_for(local=True))
    assert _codes(client, host) == [403, 403, 403]
    assert "localhost, 127.0.0.1 and [::1] only" in client.http("/", method="GET", Host=host).text
    assert _codes(Client(world_for()), host) == [200, 200, 200]


def test_the_local_console_refuses_pages_of_other_sites() -> None:
    """Pages and API check a browser's headers; where callers prove their identity, the headers do not matter."""
    for headers in ({"Origin": "https://evil.example.com"}, {"Sec_Fetch_Site": "cross-site"}):
        assert Client(world_for(local=True)).http("/", method="GET", **headers).status_code == 403
        assert Client(world_for()).http("/", method="GET", **headers).status_code == 200


def _codes(client: Client, host: str) -> list[int]:
    json_type = {"Content_Type": "application/json", "Accept": "application/json"}
    answers = [
        client.http("/", who=ADMIN, method="GET", Host=host),
        client.http("/prpc/scheduler.Scheduler/GetJobs", b"{}", ADMIN, Host=host, **json_type),
        client.http("/prpc/description", method="GET", Host=host),
    ]
    return [answer.status_code for answer in answers]
