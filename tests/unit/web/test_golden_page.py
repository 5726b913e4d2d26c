"""The page of a replayed scenario contains every fact of the recorded text of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emulator.clock import SteppedClock
from emulator.replay.player import play
from emulator.replay.scenario import load_scenario
from luci_scheduler.core.instants import Instant
from luci_scheduler.core.job import Job, JobDefinition
from luci_scheduler.ports import CreateInvocation
from tests.unit.api.support import ADMIN, put_job, world_for
from tests.unit.engine.world import World
from tests.unit.web.support import Page, Visitor

SCENARIOS = sorted(path.parent for path in Path("tests/golden").glob("*/scenario.json"))


def _page(folder: Path) -> tuple[Page, World, str]:
    played = play(load_scenario(folder / "scenario.json"))
    invocation, log = played.invocations[0]
    world = world_for()
    put_job(world, Job(invocation.job_id, JobDefinition(invocation.task)))
    world.store.commit([CreateInvocation(invocation, log)])
    clock = SteppedClock(Instant(played.now))
    world.app = replace(world.app, runtime=replace(world.app.runtime, clock=clock))
    path = f"/jobs/{invocation.job_id}/{invocation.id}"
    return Visitor(world, ADMIN).page(path), world, path


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_the_page_carries_every_fact(folder: Path) -> None:
    """Facts, definition, triggers with links, properties, tags and the log are each in their place."""
    page, _, _ = _page(folder)
    text = (folder / "page.txt").read_text(encoding="utf-8")
    head, _, log = text.partition("Debug log (UTC)\n\n")
    facts, definition, body, *rest = head.rstrip("\n").split("\n\n")
    terms = [_words(item.text) for item in page.all("dt")]
    values = [_words(item.text) for item in page.all("dd")]
    shown = dict(zip(terms, values, strict=True))
    for line in facts.splitlines():
        name, _, value = line.partition(": ")
        assert shown[name] == value
    headings = [_words(item.text) for item in page.all("h2")]
    blocks = [item.text for item in page.all("pre")]
    assert definition in headings
    assert body in blocks
    for heading, content in zip(rest[::2], rest[1::2], strict=True):
        assert heading in headings
        _check_section(page, blocks, content)
    assert "Debug log (UTC)" in headings
    assert page.all("pre", id="live-log")[0].text.removesuffix("\n") == log


def _check_section(page: Page, blocks: list[str], content: str) -> None:
    if not content.startswith("  • "):
        assert content in blocks
        return
    items = [_words(item.text) for item in page.all("li")]
    links = {item.attributes["href"]: _words(item.text) for item in page.all("a")}
    for line in content.splitlines():
        title, *more = line.removeprefix("  • ").split(" ")
        assert any(item.startswith(title) for item in items), title
        for url in (word for word in more if word.startswith("https://")):
            assert links[url] == title


def test_the_golden_page_has_more_facts_than_the_original() -> None:
    """The timeline has launch, build start, checks, notifications and the end; the page has cost and build."""
    folder = Path("tests/golden/tint-mac-rel")
    page, world, path = _page(folder)
    labels = [item.text for item in page.all("title")[1:]]
    assert labels[0] == "Queued, at the beginning"
    assert labels[1] == "Launched, after 1.118s"
    assert labels[-1] == "End: SUCCEEDED, after 28m39s"
    assert sum(label.startswith("Status check") for label in labels) == 28
    assert sum(label.startswith("Notification") for label in labels) == 2
    twin = Visitor(world, ADMIN).json(path)
    assert (twin["cost"]["status_checks"], twin["cost"]["launch_attempts"]) == (28, 1)
    assert page.all("a", href="https://ci.chromium.org/b/8854922957825743408")
    revision = "1d982367704d1ab504aedae06e02d5edb40c83aa"
    assert any(
        link.attributes["href"].startswith("/commits?") and revision in link.attributes["href"]
        for link in page.all("a")
    )
