"""Forms: their effects, the users who see them, and refusals."""

from __future__ import annotations

import pytest

from luci_scheduler.core.instants import HOUR, Instant
from luci_scheduler.core.invocation import Status
from luci_scheduler.web.tokens import LIFETIME, form_token, is_genuine
from tests.unit.api.support import OWNER, READER, STRANGER, TRIGGERER, world_for
from tests.unit.engine.world import JOB, World
from tests.unit.web.support import Visitor

PAGE = "/jobs/proj/job"
PROJECT = "/jobs/proj"
JOB_ACTIONS = ("triggerJob", "pauseJob", "resumeJob", "abortJob", "backfillJob")
INVOCATION_ACTIONS = ("abortInvocation", "rerunInvocation")


def _action(name: str) -> str:
    return f"/actions/{name}/proj/job"


@pytest.fixture
def world() -> World:
    """A job with a running invocation."""
    world = world_for()
    world.commit()
    world.store.counts.clear()
    return world


def _invocation_page(world: World) -> tuple[str, str]:
    identifier = str(world.invocations()[-1].id)
    return f"{PAGE}/{identifier}", identifier


def test_a_button_triggers_the_job(world: World) -> None:
    """The redirect leads to the job's page, and the caller triggered the invocation."""
    world.finish()
    world.notify("n1")
    answer = Visitor(world).submit(PAGE, _action("triggerJob"))
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{PAGE}?done=trigger")
    world.tick(1)
    assert world.invocations()[0].triggered_by == f"user:{OWNER}"
    assert "The job was triggered." in Visitor(world).page(f"{PAGE}?done=trigger").text


def test_the_same_form_sent_again_has_no_second_effect(world: World) -> None:
    """A hidden field holds the key; a page that is loaded again has a new key."""
    visitor = Visitor(world)
    form = visitor.page(PAGE).form(_action("triggerJob"))
    assert form is not None
    for _ in range(5):
        assert visitor.post(_action("triggerJob"), form).status_code == 302
    again = visitor.page(PAGE).form(_action("triggerJob"))
    assert again is not None
    assert again["key"] != form["key"]
    world.tick(1)
    waiting = world.store.pending_triggers(JOB, 10)
    assert [item.value.trigger.kind for item in waiting] == ["webui"]


def test_pause_and_resume(world: World) -> None:
    """The page shows the reason; a paused job has a button to resume it and none to trigger it."""
    visitor = Visitor(world)
    answer = visitor.submit(PAGE, _action("pauseJob"), reason="  on   fire ")
    assert answer.headers["Location"] == f"{PAGE}?done=pause"
    page = visitor.page(PAGE)
    assert f"Paused by {OWNER} now: on fire" in page.text
    assert page.form(_action("triggerJob")) is page.form(_action("pauseJob")) is None
    token = (page.form(_action("resumeJob")) or {})["token"]
    refused = visitor.post(_action("triggerJob"), {"token": token, "key": "k"})
    assert refused.status_code == 409
    assert "Cannot trigger a paused job. Resume it first." in refused.text
    visitor.submit(PAGE, _action("resumeJob"))
    found = world.store.job(JOB)
    assert found is not None
    assert (found.value.paused, found.value.change_reason) == (False, "No reason was given.")


def test_abort_and_rerun_of_an_invocation(world: World) -> None:
    """An abort redirects to the invocation's page, a rerun to the job's page, which will show the new invocation."""
    visitor, (path, identifier) = Visitor(world), _invocation_page(world)
    answer = visitor.submit(path, f"{_action('abortInvocation')}/{identifier}", reason="enough")
    assert answer.headers["Location"] == f"{path}?done=abort"
    world.tick(1)
    page = visitor.page(path)
    assert f"Abort requested by {OWNER}: enough." in page.text
    assert page.form(f"{_action('abortInvocation')}/{identifier}") is None
    again = visitor.submit(path, f"{_action('rerunInvocation')}/{identifier}")
    assert again.headers["Location"] == f"{PAGE}?done=rerun"
    world.tick(1)
    newest = world.invocations()[0]
    assert newest.incoming_triggers[0].id.startswith(f"rerun:{identifier}:")
    assert newest.status is Status.RUNNING


def test_abort_of_a_job(world: World) -> None:
    """Every active invocation is aborted."""
    answer = Visitor(world).submit(PAGE, _action("abortJob"))
    assert answer.headers["Location"] == f"{PAGE}?done=abort"
    world.tick(1)
    assert [item.status for item in world.invocations()] == [Status.ABORTED]


def test_a_row_of_the_projects_page_triggers_its_job(world: World) -> None:
    """The redirect leads back to the same part of the list; a form sent again has no second effect."""
    visitor = Visitor(world)
    world.finish()
    world.notify("n1")
    form = visitor.page(f"{PROJECT}?filter=waiting").form(_action("triggerJob"))
    assert form is not None
    for _ in range(3):
        answer = visitor.post(_action("triggerJob"), form)
        assert (answer.status_code, answer.headers["Location"]) == (
            302,
            f"{PROJECT}?filter=waiting&done=trigger&job=job",
        )
    world.tick(1)
    assert [item.triggered_by for item in world.invocations()] == [f"user:{OWNER}", ""]
    page = visitor.page(f"{PROJECT}?done=trigger&job=job")
    assert page.all("p", role="status")[0].text.startswith("job: The job was triggered.")
    assert visitor.page(f"{PROJECT}?done=trigger&job=bank").all("p", role="status")[0].text.startswith("The job ")


def test_rows_pause_with_a_reason_and_resume(world: World) -> None:
    """Pause leads to the form for the reason; the row of a paused job has only Resume; labels name the job."""
    visitor = Visitor(world)
    (link,) = [item for item in visitor.page(PROJECT).all("a") if item.attributes.get("aria-label") == "Pause… job"]
    path, _, anchor = link.attributes["href"].partition("#")
    assert path == PAGE
    assert visitor.page(path).all("input", id=anchor)[0].attributes["name"] == "reason"
    visitor.submit(path, _action("pauseJob"), reason="flood")
    page = visitor.page(PROJECT)
    names = [
        item.attributes["aria-label"]
        for item in [*page.all("button"), *page.all("a")]
        if "aria-label" in item.attributes
    ]
    assert names == ["Resume job", "Trigger poller", "Pause… poller"]
    answer = visitor.submit(PROJECT, _action("resumeJob"))
    assert answer.headers["Location"] == f"{PROJECT}?done=resume&job=job"
    found = world.store.job(JOB)
    assert found is not None
    assert not found.value.paused


@pytest.mark.parametrize(
    "text", ["https://evil.example/", "//evil.example", "/commits", "-1", "9" * 30, "x&done=abort"]
)
def test_no_form_redirects_to_another_site(world: World, text: str) -> None:
    """The redirect never uses an address from the form."""
    form = {"token": form_token("secret", f"user:{OWNER}", world.clock.now()), "key": "k", "page": "project"}
    fields = {**form, "filter": text, "from": text, "back": text, "next": text}
    answer = Visitor(world).post(_action("triggerJob"), fields, Referer=text)
    assert answer.headers["Location"] == f"{PROJECT}?done=trigger&job=job"
    other = Visitor(world).post(_action("triggerJob"), {**fields, "page": text})
    assert other.headers["Location"] == f"{PAGE}?done=trigger"


@pytest.mark.parametrize(("who", "names"), [(READER, []), (TRIGGERER, ["Trigger job", "Trigger poller"])])
def test_rows_offer_only_permitted_actions(world: World, who: str, names: list[str]) -> None:
    """A list without any action has no column for actions."""
    page = Visitor(world, who).page(PROJECT)
    assert [item.attributes.get("aria-label") for item in page.all("button")] == names
    assert any(item.text == "Actions" for item in page.all("th")) == bool(names)
    assert not [item for item in page.all("a") if item.text == "Pause…"]


@pytest.mark.parametrize(("who", "actions"), [(READER, ()), (TRIGGERER, ("triggerJob", "rerunInvocation"))])
def test_only_permitted_actions_are_shown(world: World, who: str, actions: tuple[str, ...]) -> None:
    """Other users who try are refused with the original's text, and nothing happens."""
    visitor, (path, identifier) = Visitor(world, who), _invocation_page(world)
    forms = visitor.page(PAGE).all("form", method="post") + visitor.page(path).all("form", method="post")
    assert sorted(form.attributes["action"].split("/")[2] for form in forms) == sorted(actions)
    token = form_token("secret", f"user:{who}", world.clock.now())
    world.store.counts.clear()
    queued = len(world.queue.take_due(Instant(world.clock.now() + 1000 * HOUR)))
    for name in {*JOB_ACTIONS, *INVOCATION_ACTIONS} - {*actions, "backfillJob"}:
        action = _action(name) + (f"/{identifier}" if name in INVOCATION_ACTIONS else "")
        answer = visitor.post(action, {"token": token, "key": "k"})
        assert answer.status_code == 403
        assert "No permission to execute the attempted action." in answer.text
    assert world.store.counts["c"] == 0
    assert queued >= len(world.queue.take_due(Instant(world.clock.now() + 1000 * HOUR))) == 0


@pytest.mark.parametrize("name", [*JOB_ACTIONS, *INVOCATION_ACTIONS])
def test_without_a_genuine_token_nothing_happens(world: World, name: str) -> None:
    """The token is missing, forged, old, or another user's; or a page of another site sends a good token."""
    visitor, (_, identifier) = Visitor(world), _invocation_page(world)
    action = _action(name) + (f"/{identifier}" if name in INVOCATION_ACTIONS else "")
    now, me = world.clock.now(), f"user:{OWNER}"
    world.queue.take_due(Instant(now + 1000 * HOUR))
    bad = [
        "",
        "x",
        form_token("secret", f"user:{READER}", now),
        form_token("other", me, now),
        form_token("secret", me, Instant(now - LIFETIME - HOUR)),
        form_token("secret", me, Instant(now + HOUR)),
    ]
    for token in bad:
        assert visitor.post(action, {"token": token, "key": "k"}).status_code == 403
    good = {"token": form_token("secret", me, now), "key": "k"}
    for site in ("cross-site", "same-site"):
        assert visitor.post(action, good, Sec_Fetch_Site=site).status_code == 403
    assert world.store.counts["c"] == 0
    assert world.queue.take_due(Instant(now + 1000 * HOUR)) == []


def test_an_expired_form_has_a_hint(world: World) -> None:
    """An expired form has the hint to reload the page; a user without permission gets another hint."""
    form = {"token": form_token("secret", f"user:{OWNER}", Instant(0)), "key": "k"}
    text = Visitor(world).post("/actions/triggerJob/proj/job", form).text
    assert "reload the page, and repeat the action" in text
    assert "grant you the permission" not in text
    fresh = {"token": form_token("secret", f"user:{READER}", world.clock.now()), "key": "k"}
    assert "grant you the permission" in Visitor(world, READER).post("/actions/triggerJob/proj/job", fresh).text


def test_a_token_of_a_secret_that_is_being_replaced_is_good() -> None:
    """A token is good while its secret is listed."""
    token = form_token("old", "user:a", Instant(0))
    assert is_genuine(["new", "old"], token, "user:a", Instant(0))
    assert not is_genuine(["new"], token, "user:a", Instant(0))


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/actions/triggerJob/proj/none", 404, "No such job or no permission to view it."),
        ("/actions/abortInvocation/proj/job/77", 404, "The requested invocation is not found."),
        ("/actions/abortInvocation/proj/job/seven", 400, "Malformed invocation ID."),
        ("/actions/burnJob/proj/job", 404, "There is no such action."),
        ("/actions/burn", 404, "There is no such page."),
        ("/actions/triggerJob/proj/job", 400, "request_id must have"),
    ],
)
def test_errors_of_actions(world: World, path: str, code: int, words: str) -> None:
    """Errors have the original's texts if the original has any."""
    token = form_token("secret", f"user:{OWNER}", world.clock.now())
    key = "" if words.startswith("request_id") else "k"
    answer = Visitor(world).post(path, {"token": token, "key": key})
    assert answer.status_code == code
    assert words in answer.text


def test_hidden_and_missing_jobs_give_the_same_error(world: World) -> None:
    """Actions behave the same."""
    fields = {"token": form_token("secret", f"user:{STRANGER}", world.clock.now()), "key": "k"}
    hidden, missing = (
        Visitor(world, STRANGER).post(f"/actions/triggerJob/proj/{name}", fields) for name in ("job", "none")
    )
    assert (hidden.status_code, hidden.data) == (missing.status_code, missing.data)


def test_other_methods_and_huge_forms_are_refused(world: World) -> None:
    """The status code says so."""
    visitor = Visitor(world)
    assert visitor._client.http(PAGE, who=OWNER, method="PUT").status_code == 405
    assert visitor.post(_action("pauseJob"), {"reason": "x" * 70_000}).status_code == 413
