"""The pages for people: the list of builds, a build, its output."""

import re
from typing import Any

import pytest
import requests

from emulator.buildbucket import BuildbucketServer, BuilderConfig, BuilderId, Outcome
from emulator.buildbucket.builds import Build, BuildSpec
from emulator.buildbucket.plans import Command
from emulator.buildbucket.state import Surroundings
from emulator.buildbucket.testing import MemoryPublisher
from emulator.buildbucket.views import build_view
from emulator.building.views import duration
from emulator.clock import RealClock
from luci_scheduler.core.instants import HOUR, MINUTE, SECOND
from tests.unit.emulator.buildbucket.support import COMMIT, schedule, tag
from tests.waiting import until

EVIL = "<script>alert(1)//"
KEY = (COMMIT["host"], COMMIT["project"], COMMIT["id"])


def get(server: BuildbucketServer, path: str, **headers: str) -> requests.Response:
    """Get a page."""
    return requests.get(f"{server.url}{path}", headers=headers, timeout=10)


def made(server: BuildbucketServer, **fields: Any) -> int:
    """Return the ID of a new build."""
    return int(schedule(server, **fields)["id"])


def rows(page: str) -> list[str]:
    """Return the IDs of the builds in a list."""
    return re.findall(r'<th scope="row"><a href="/build/(\d+)"', page)


def builder(name: str) -> dict[str, str]:
    """Return a builder's message."""
    return {"project": "p", "bucket": "b", "builder": name}


class TestList:
    """The latest builds."""

    def test_without_builds_it_says_what_starts_one(self, server: BuildbucketServer) -> None:
        assert "There is no build yet. A commit to a branch that a config watches starts one." in get(server, "/").text

    def test_a_row_has_status_builder_commit_and_duration(self, server: BuildbucketServer) -> None:
        server.around.gitiles_url = "http://gitiles"
        server.around.subjects = lambda keys: {key: "Repair it" for key in keys if key == KEY}
        build_id = made(server, gitilesCommit=COMMIT)
        server.start_build(build_id)
        server.clock.advance(65 * SECOND)
        server.end_build(build_id, Outcome("FAILURE"))
        page = get(server, "/").text
        assert rows(page) == [str(build_id)]
        assert '<span class="label danger">FAILURE</span>' in page
        assert f'<a href="http://gitiles/h.googlesource.com/r/+/{"a" * 40}"><code class="hash">{"a" * 12}' in page
        assert "Repair it" in page
        assert "1 min 05 s" in page
        assert "1 minute ago" in page

    def test_filters_by_builder_and_status(self, server: BuildbucketServer) -> None:
        linux, mac = made(server, builder=builder("Linux Tests")), made(server, builder=builder("mac"))
        server.start_build(mac)
        assert set(rows(get(server, "/").text)) == {str(linux), str(mac)}
        assert rows(get(server, "/?builder=linux+t").text) == [str(linux)]
        assert rows(get(server, "/?status=STARTED").text) == [str(mac)]
        assert rows(get(server, "/?status=STARTED&builder=linux").text) == []
        assert "No build matches" in get(server, "/?status=STARTED&builder=linux").text
        assert len(rows(get(server, "/?status=nope&after=x").text)) == 2

    def test_pages_have_fifty_builds_and_each_build_once(self, server: BuildbucketServer) -> None:
        for _ in range(120):
            server.clock.advance(SECOND)
            made(server)
        seen, address, sizes = [], "/?status=SCHEDULED", []
        while address:
            page = get(server, address).text
            sizes.append(len(rows(page)))
            seen += rows(page)
            older = re.search(r'<a href="([^"]+)">Older</a>', page)
            address = older[1].replace("&amp;", "&") if older else ""
        assert sizes == [50, 50, 20]
        assert len(set(seen)) == 120
        assert [int(build_id) for build_id in seen] == sorted(map(int, seen))  # the newest first


class TestBuild:
    """The page of a build."""

    def test_the_summary_comes_first_and_links_lead_to_the_local_pages(self, server: BuildbucketServer) -> None:
        server.around.console_url, server.around.gitiles_url = "http://console", "http://gitiles"
        tags = [tag("scheduler_job_id", "p/a job"), tag("scheduler_invocation_id", "123")]
        build_id = made(server, gitilesCommit=COMMIT, tags=tags, properties={"mode": "fast"})
        server.start_build(build_id)
        server.outputs.add(build_id).write(b"the output\n")
        server.end_build(build_id, Outcome("FAILURE", summary="2 tests failed\n\n    FAILED a\n      why"))
        page = get(server, f"/build/{build_id}").text
        summary = '<p class="wrapped">2 tests failed</p><pre>FAILED a\n  why</pre>'
        assert -1 < page.index('<section class="notice bad"') < page.index(summary) < page.index("the output\n</pre>")
        assert '<a href="http://console/jobs/p/a%20job/123">p/a job 123</a>' in page
        assert f'<a href="http://gitiles/h.googlesource.com/r/+/{"a" * 40}">' in page
        assert f'<a href="/build/{build_id}/log">as text</a>' in page
        assert "&#34;mode&#34;: &#34;fast&#34;" in page
        assert "data-grows" not in page
        assert "<title>FAILURE \u2013 p/b/x \u2013 Buildbucket, local cloud</title>" in page

    @pytest.mark.parametrize(
        "tags",
        [
            {},
            {"scheduler_job_id": "p/j"},
            {"scheduler_job_id": "x", "scheduler_invocation_id": "1"},
            {"scheduler_job_id": "p/j", "scheduler_invocation_id": "../1"},
        ],
    )
    def test_no_link_to_an_invocation_that_cannot_be(self, tags: dict[str, str]) -> None:
        spec = BuildSpec("v2", BuilderId("p", "b", "x"), "c", BuilderConfig(), tags=tuple(tags.items()))
        view = build_view(Build(7, spec, None, 0, 0, 0, "t"), 0, Surroundings("http://console"), {})
        assert (view.invocation, view.invocation_url) == ("", "")

    def test_foreign_text_is_escaped_everywhere(self, server: BuildbucketServer) -> None:
        server.around.subjects = lambda keys: dict.fromkeys(keys, EVIL)
        build_id = made(
            server, gitilesCommit=COMMIT, properties={EVIL: EVIL}, tags=[tag("k", EVIL)], builder=builder("b")
        )
        server.start_build(build_id)
        server.outputs.add(build_id).write(f"{EVIL}\n".encode())
        server.end_build(build_id, Outcome("FAILURE", summary=f"{EVIL}\n    {EVIL}"))
        pages = [
            get(server, f"/build/{build_id}"),
            get(server, "/"),
            get(server, f"/?builder={EVIL}"),
            get(server, f"/build/{EVIL[:-2]}"),
        ]
        for page in pages:
            assert EVIL[:-2] not in page.text
            assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert pages[0].text.count("&lt;script&gt;alert(1)") == 7

    @pytest.mark.parametrize("name", ["1", "x", "99999999999999999999", "\u0663"])
    def test_a_build_that_is_not_there(self, server: BuildbucketServer, name: str) -> None:
        for path in (f"/build/{name}", f"/build/{name}/log"):
            answer = get(server, path)
            assert (answer.status_code, "There is no build" in answer.text) == (404, True)

    def test_a_build_that_is_being_canceled(self, server: BuildbucketServer) -> None:
        build_id = made(server)
        server.start_build(build_id)
        server.builds.request_cancel(build_id, server.clock.now(), "user:a@b", "stop")
        assert "is being canceled" in get(server, f"/build/{build_id}").text
        server.end_build(build_id, Outcome("CANCELED"))
        page = get(server, f"/build/{build_id}").text
        assert "is being canceled" not in page
        assert "<dt>Canceled by</dt><dd>user:a@b</dd>" in page

    def test_why_there_is_no_output(self, server: BuildbucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
        build_id = made(server)
        assert "No command belongs to this builder, so nothing ran" in get(server, f"/build/{build_id}").text
        assert "No command belongs to this builder" in get(server, f"/build/{build_id}/log").text
        server.outputs.add(build_id).write(b"x" * 100)
        monkeypatch.setattr(server.outputs, "_limit", 50)
        server.outputs.add(1)
        assert "The output of this build was removed" in get(server, f"/build/{build_id}").text


class TestOutput:
    """The output while the command runs."""

    def test_it_is_read_from_a_position_until_the_end(self, server: BuildbucketServer) -> None:
        build_id = made(server)
        server.start_build(build_id)
        output = server.outputs.add(build_id)
        output.write("one wörd\n".encode())
        page = get(server, f"/build/{build_id}").text
        assert f'data-log="/build/{build_id}/log" data-next="9" data-grows="true">one wörd\n</pre>' in page
        output.write(b"two\n")
        answer = get(server, f"/build/{build_id}/log?from=9")
        assert (answer.text, answer.headers["X-Next"], answer.headers["X-Ended"]) == ("two\n", "13", "false")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        server.end_build(build_id, Outcome("SUCCESS"))
        answer = get(server, f"/build/{build_id}/log?from=13")
        assert (answer.text, answer.headers["X-Ended"]) == ("", "true")
        assert get(server, f"/build/{build_id}/log?from=x").text == "one wörd\ntwo\n"

    def test_the_page_of_a_large_output_shows_its_end(self, server: BuildbucketServer) -> None:
        build_id = made(server)
        server.outputs.add(build_id).write(b"line\n" * 100_000 + b"the end\n")
        page = get(server, f"/build/{build_id}")
        assert "the end\n</pre>" in page.text
        assert len(page.content) < 200_000
        assert len(get(server, f"/build/{build_id}/log").content) > 300_000

    def test_a_command_that_waits_for_another_one(self, publisher: MemoryPublisher) -> None:
        server = BuildbucketServer(RealClock(), publisher, default_plan=Command(("sleep", "60")), parallel=1)
        server.start()
        try:
            first, second = made(server), made(server)
            until(lambda: "STARTED" in {build.status for build in server.builds.newest_first()})
            waiting = next(item for item in (first, second) if server.builds.get(item).status == "SCHEDULED")
            text = get(server, f"/build/{waiting}").text
        finally:
            server.stop()
        assert "The command has not started. At most 1 commands run at once." in text


@pytest.mark.parametrize("path", ["/", "/build/1", "/build/1/log", "/assets/builds.js"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_pages_of_other_sites_are_refused(server: BuildbucketServer, path: str, headers: dict[str, str]) -> None:
    assert get(server, path, **headers).status_code == 403
    assert get(server, path).status_code in (200, 404)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(-5, "0.0 s"), (1_250_000_000, "1.2 s"), (MINUTE, "1 min 00 s"), (HOUR + 7 * MINUTE, "1 h 07 min")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
