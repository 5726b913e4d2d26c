"""The Gitiles server's refs, repositories, formats, errors and faults."""

import base64
import http.client
import json
import re
import time
from pathlib import Path

import pytest
import requests

from emulator.errors import LocalCloudError
from emulator.gitiles import Entry, GitilesFault, GitilesServer, Repository
from emulator.gitiles.testing import GUARD, commit_history, fetch_json, get_page, page_commits

SAMPLES = Path(__file__).parents[3] / "samples"


class TestRefs:
    """Refs."""

    @pytest.fixture
    def refs(self, repository):
        """Branches and tags of all kinds; returns the commits by name."""
        main, release = commit_history(repository, 2)
        repository.force_push("release/1", release)
        repository.force_push("refs/changes/65/198765/3", main)
        return {
            "main": main,
            "release": release,
            "v1": repository.tag("v1", release, "annotated"),
            "light": repository.tag("light", main),
        }

    def test_all_refs_have_full_names(self, server, refs):
        """Without a prefix names are full. HEAD has its target, tags have their commit, and the order is by name."""
        shown = fetch_json(server.url, "/tint/+refs")
        assert shown == {
            "HEAD": {"value": refs["main"], "target": "refs/heads/main"},
            "refs/changes/65/198765/3": {"value": refs["main"]},
            "refs/heads/main": {"value": refs["main"]},
            "refs/heads/release/1": {"value": refs["release"]},
            "refs/tags/light": {"value": refs["main"]},
            "refs/tags/v1": {"value": refs["v1"], "peeled": refs["release"]},
        }
        assert list(shown) == sorted(shown)

    @pytest.mark.parametrize("path", ["+refs/heads", "+refs/heads/", "+refs%2Fheads"])
    def test_names_below_a_prefix_are_relative(self, server, refs, path):
        """Below a prefix names are relative, with any encoding of the slash."""
        assert fetch_json(server.url, f"/tint/{path}") == {
            "main": {"value": refs["main"]},
            "release/1": {"value": refs["release"]},
        }

    def test_exact_and_none(self, server, refs):
        """A ref itself has its full name; an unused prefix gives an empty object."""
        assert fetch_json(server.url, "/tint/+refs/heads/main") == {"refs/heads/main": {"value": refs["main"]}}
        assert fetch_json(server.url, "/tint/+refs/heads/release") == {"1": {"value": refs["release"]}}
        assert get_page(server.url, "/tint/+refs/hea").text == (SAMPLES / "gitiles-refs-none.body.txt").read_text()

    def test_changed_refs_show_at_once(self, server, repository, refs):
        """Moved, created and deleted refs show at once. An empty repository has no refs, not even HEAD."""
        repository.force_push("main", refs["release"])
        repository.delete_ref("release/1")
        assert fetch_json(server.url, "/tint/+refs/heads") == {"main": {"value": refs["release"]}}
        Repository.create(repository.path.parent / "empty")
        assert fetch_json(server.url, "/empty/+refs") == {}


class TestForcePush:
    """Pages after history was rewritten."""

    def test_unrelated_history(self, server, repository):
        """Once the old history is gone, the range and its old end are not found; the new end is."""
        old = commit_history(repository, 2)[0]
        new = repository.commit("other", {"b": "1"}, parents=[])
        assert page_commits(fetch_json(server.url, f"/tint/+log/{old}..{new}")) == [new]
        repository.prune()
        assert get_page(server.url, f"/tint/+log/{old}..{new}").status_code == 404
        assert get_page(server.url, f"/tint/+log/{old}", n=1).status_code == 404
        assert page_commits(fetch_json(server.url, f"/tint/+log/{new}", n=1)) == [new]

    def test_not_yet_visible(self, server, repository):
        """A hidden commit is not found for a number of requests, although its ref shows it."""
        new, old = commit_history(repository, 2)
        server.faults.hide(new, times=2)
        assert fetch_json(server.url, "/tint/+refs/heads") == {"main": {"value": new}}
        statuses = [get_page(server.url, f"/tint/+log/{old}..{new}").status_code for _ in range(3)]
        assert statuses == [404, 404, 200]
        server.faults.hide(old)
        assert get_page(server.url, f"/tint/+log/{old}..{new}").status_code == 404
        assert get_page(server.url, f"/tint/+log/{new}").status_code == 200
        server.faults.reveal(old)
        assert get_page(server.url, f"/tint/+log/{old}..{new}").status_code == 200


class TestErrors:
    """Errors and faults."""

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/nope/+log/main", 404), ("/tint/+log/nope", 404), (f"/tint/+log/{'d' * 40}..main", 404),
            ("/tint/+log/main..nope", 404), ("/tint/+nope/main", 404), ("/tint/+log/main...other", 404),
            ("/tint/+log/-n", 404), ("/tint/+log/main:file", 404),
            ("/tint/..%2Ftint/+log/main", 404), ("/tint", 400), ("/tint/+/main/nope", 404),
            ("/tint/+log/..main", 404), ("/tint/+log/main@%7B0%7D", 404),
        ],
    )  # fmt: skip
    def test_not_found(self, server, repository, path, status):
        """An unknown or unreadable name is refused in plain text, never in JSON."""
        commit_history(repository, 1)
        response = get_page(server.url, path)
        assert response.status_code == status
        assert not response.headers["Content-Type"].startswith("application/json")
        assert not response.text.startswith(GUARD)

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
    def test_hosted_texts(self, server, tmp_path, status):
        """Errors are as recorded from the hosted service, except for the request ID."""
        Repository.create(tmp_path / "tint")
        server.faults.add(GitilesFault("error", status=status))
        recorded = json.loads((SAMPLES / f"gitiles-error-{status}.http.json").read_text())["response"]
        response = get_page(server.url, f"/a/tint/+log/{'de' * 20}..main")
        masked = re.compile(r'request_id: "[0-9a-f]{32}"')
        assert response.status_code == recorded["status"]
        assert response.headers["Content-Type"] == recorded["headers"]["Content-Type"]
        assert masked.sub("", response.text) == masked.sub("", recorded["body"])
        assert get_page(server.url, "/a/tint/+refs").status_code == 200

    def test_an_ambiguous_hash_gets_400(self, server, repository):
        """A short hash of several commits is 400, as recorded."""
        prefixes = {}
        for number in range(2000):
            sha = self.loose_commit(repository, number)
            if prefixes.setdefault(sha[:4], sha) != sha:
                break
        recorded = json.loads((SAMPLES / "gitiles-error-400.http.json").read_text())["response"]
        response = get_page(server.url, f"/tint/+log/{sha[:4]}")
        assert (response.status_code, response.text) == (recorded["status"], recorded["body"])
        assert response.headers.items() >= recorded["headers"].items()

    def test_open_form(self, tmp_path, repository):
        """Open-source Gitiles has a code in a header."""
        server = GitilesServer(tmp_path, errors="open")
        server.start()
        commit_history(repository, 1)
        assert get_page(server.url, "/nope/+refs").headers["X-Gitiles-Error"] == "REPOSITORY_NOT_FOUND"
        assert get_page(server.url, "/tint/+log/nope").headers["X-Gitiles-Error"] == "OBJECT_NOT_FOUND"
        assert get_page(server.url, "/tint/+nope").headers["X-Gitiles-Error"] == "CANNOT_PARSE_GITILES_VIEW"
        server.stop()

    def test_each_page_has_its_formats(self, server, repository):
        """The format JSON works in either case; without a format the page is HTML.

        An unknown or unavailable format is 400.
        """
        commit_history(repository, 1)
        assert requests.get(f"{server.url}/tint/+refs?format=json", timeout=60).text.startswith(GUARD)
        html = requests.get(f"{server.url}/tint/+log/main", timeout=60)
        assert html.headers["Content-Type"] == "text/html; charset=utf-8"
        unknown = requests.get(f"{server.url}/tint/+log/main?format=XML", timeout=60)
        assert (unknown.status_code, unknown.headers["X-Gitiles-Error"]) == (400, "UNSUPPORTED_RESPONSE_FORMAT")
        assert get_page(server.url, "/tint/+/main/file").status_code == 400
        assert requests.post(f"{server.url}/tint/+log/main", timeout=60).status_code == 405

    def test_connections_and_responses_break(self, server, repository):
        """Connections break, and responses break off or are late, by path and number."""
        commit_history(repository, 3)
        server.faults.add(GitilesFault("cut", "/tint/+log/*"))
        assert get_page(server.url, "/a/tint/+refs").status_code == 200
        with pytest.raises(requests.ConnectionError):
            get_page(server.url, "/a/tint/+log/main")
        server.faults.add(GitilesFault("cut_body", times=1))
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            get_page(server.url, "/tint/+log/main")
        server.faults.add(GitilesFault("slow", seconds=0.05))
        begin = time.monotonic()
        assert get_page(server.url, "/tint/+log/main").status_code == 200
        assert time.monotonic() - begin >= 0.05
        assert [record.status for record in server.requests] == [200, 0, 200, 200]

    def test_strict_mode_needs_a_token(self, server, repository):
        """In strict mode /a needs a known token; other paths need none."""
        commit_history(repository, 1)
        server.strict_auth = True
        assert get_page(server.url, "/tint/+refs").status_code == 200
        assert get_page(server.url, "/a/tint/+refs").status_code == 401
        headers = {"Authorization": "Bearer fake:a@b.c"}
        assert requests.get(f"{server.url}/a/tint/+refs?format=JSON", headers=headers, timeout=60).status_code == 200
        assert [record.authenticated for record in server.requests] == [False, True, True]

    @staticmethod
    def loose_commit(repository, number):
        """Return the hash of another root commit."""
        return repository.commit(f"{number}", {}, f"n{number % 3}", parents=[])


class TestOddRequests:
    """Paths and queries that our clients never send; the server responds to them as well."""

    @pytest.fixture(autouse=True)
    def files(self, repository):
        """Two commits of two files."""
        repository.commit("first", {"file": "1"})
        return repository.commit("second", {"other": "2"})

    @pytest.mark.parametrize(
        "path",
        [
            "/h/%00/x",
            "/tint%00/+refs",
            "/tint/+log/main%00",
            "/tint/+/main%0D",
            "/tint/+log/main/file%00",
            "/tint/+log/main/a%0Ab",
            f"/{'a' * 300}/+refs",
            f"/h/{'a' * 5000}/x",
            f"/tint/+log/main/{'a/' * 1500}b",
            "/tint/+log/main?s=main%00",
            "/tint/+log/main?author=a%00b",
            "/tint/+log/main?author=%5B",
            "/tint/+log/main?committer=a%0Ab",
            "/tint/+log/main/file?follow=1&author=%5B",
        ],
    )
    @pytest.mark.parametrize("form", ["hosted", "open"])
    def test_impossible_names_are_400(self, tmp_path, path, form):
        """Control characters, overlong names and invalid patterns are never an error of the server."""
        server = GitilesServer(tmp_path, errors=form)
        server.start()
        try:
            status, text = _raw_get(server.url, path)
        finally:
            server.stop()
        assert (status, "Traceback" in text, str(tmp_path) in text) == (400, False, False)

    @pytest.mark.parametrize("path", ["/tint/+/main/../x", "/tint/+/main/./file", "/h/../tint/+refs", "/tint/+log/.."])
    def test_no_name_is_relative(self, server, path):
        """A client that does not normalize paths gets 404."""
        assert _raw_get(server.url, path)[0] == 404

    @pytest.mark.parametrize("path", ["*", "fi*", ":(exclude)other", ":!other", ":(glob)f*", ":/file", "[f]ile"])
    def test_a_path_is_not_a_pattern(self, server, path):
        """Git would treat each of these as a pattern that matches a file."""
        assert page_commits(fetch_json(server.url, f"/tint/+log/main/{path}")) == []
        assert get_page(server.url, f"/tint/+/main/{path}").status_code == 404

    @pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"])
    def test_a_ref_may_contain_other_line_separators(self, server, repository, files, separator):
        """Git allows them in names of refs."""
        name = f"refs/heads/a{separator}b"
        repository.force_push(name, files)
        assert fetch_json(server.url, "/tint/+refs/heads")[f"a{separator}b"] == {"value": files}
        assert page_commits(fetch_json(server.url, f"/tint/+log/{name}", n=1)) == [files]
        assert get_page(server.url, f"/tint/+log/none{separator}x").status_code == 404

    def test_a_missing_git_is_an_error(self, server, repository, monkeypatch):
        """The page is the service's error; the error in Python names the program to install."""
        monkeypatch.setenv("PATH", "/nowhere")
        assert get_page(server.url, "/tint/+log/main").status_code == 500
        with pytest.raises(LocalCloudError, match="install it"):
            repository.commit("third", {"file": "3"})


def _raw_get(url, path):
    """Return status and text of a response to a path that is sent unchanged; client libraries would normalize it."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", path + ("&" if "?" in path else "?") + "format=JSON")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class TestPlaces:
    """The repository of a path."""

    def test_hosts_and_names(self, server, tmp_path):
        """Several hosts, nested names, names with .git, bare or not, all with or without /a."""
        plain = Repository.create(tmp_path / "dawn.googlesource.com" / "tint", bare=False)
        nested = Repository.create(tmp_path / "chromium.googlesource.com" / "chromium" / "src.git")
        shas = {plain: commit_history(plain, 1)[0], nested: commit_history(nested, 1, "other")[0]}
        dawn, chromium = server.url_of("dawn.googlesource.com"), server.url_of("chromium.googlesource.com")
        for url in (f"{dawn}/tint", f"{dawn}/a/tint", f"{dawn}/a/tint.git"):
            reply = requests.get(f"{url}/+refs/heads?format=JSON", timeout=60).text
            assert json.loads(reply.removeprefix(GUARD)) == {"main": {"value": shas[plain]}}
        reply = requests.get(f"{chromium}/a/chromium%2Fsrc/+log/other?format=JSON", timeout=60).text
        assert page_commits(json.loads(reply.removeprefix(GUARD))) == [shas[nested]]
        assert requests.get(f"{dawn}/a/chromium/src/+refs?format=JSON", timeout=60).status_code == 404
        assert requests.get(f"{server.url_of('nowhere')}/a/tint/+refs?format=JSON", timeout=60).status_code == 404
        assert [record.host for record in server.requests[:4]] == ["dawn.googlesource.com"] * 3 + [
            "chromium.googlesource.com"
        ]

    def test_projects_are_listed(self, server, tmp_path):
        """The list of projects has names, URLs and descriptions."""
        Repository.create(tmp_path / "h" / "a" / "b.git")
        Repository.create(tmp_path / "h" / "c")
        (tmp_path / "h" / "c" / "description").write_text("A project\n")
        reply = requests.get(f"{server.url_of('h')}/?format=JSON", timeout=60).text
        assert json.loads(reply.removeprefix(GUARD)) == {
            "a/b": {"name": "a/b", "clone_url": f"{server.url}/h/a/b"},
            "c": {"name": "c", "clone_url": f"{server.url}/h/c", "description": "A project"},
        }

    def test_a_commit_its_tree_and_a_file(self, server, repository):
        """A single commit always has its differences, a folder has its entries, and a file is in base64."""
        sha = repository.commit("1", {"dir/a": "hello", "run": Entry(b"#!", 0o100755)})
        shown = fetch_json(server.url, f"/tint/+/{sha}")
        assert (shown["commit"], len(shown["tree_diff"])) == (sha, 2)
        entries = fetch_json(server.url, f"/tint/+/{sha}/")["entries"]
        assert [(entry["name"], entry["type"], entry["mode"]) for entry in entries] == [
            ("dir", "tree", 16384),
            ("run", "blob", 33261),
        ]
        assert [entry["name"] for entry in fetch_json(server.url, "/tint/+/main/dir")["entries"]] == ["a"]
        text = requests.get(f"{server.url}/tint/+/main/dir/a?format=TEXT", timeout=60)
        assert base64.b64decode(text.content) == b"hello"
        assert (text.headers["X-Gitiles-Path-Mode"], text.headers["X-Gitiles-Object-Type"]) == ("100644", "blob")
        raw = requests.get(f"{server.url}/tint/+/main?format=TEXT", timeout=60)
        assert base64.b64decode(raw.content).startswith(b"tree ")
        assert (
            requests.get(f"{server.url}/tint/+/main/dir?format=TEXT", timeout=60).headers["X-Gitiles-Object-Type"]
            == "tree"
        )

    def test_headers_control_caching_and_compression(self, server, repository):
        """Pages of a commit by its hash may be cached, others not.

        Large pages are compressed for clients that accept it.
        """
        commits = commit_history(repository, 10)
        by_hash, by_name = (
            get_page(server.url, f"/tint/+log/{commits[2]}..{commits[0]}"),
            get_page(server.url, "/tint/+log/main"),
        )
        assert by_hash.headers["Cache-Control"].startswith("private, max-age=7200")
        assert by_name.headers["Cache-Control"].startswith("no-cache")
        assert by_name.headers["Content-Encoding"] == "gzip"
        assert by_name.headers["Content-Disposition"] == "attachment"
        assert by_name.headers["Content-Type"].startswith("application/json")

    def test_http_requests_change_the_state(self, server, repository):
        """HTTP requests change faults, hidden commits and settings."""
        new, old = commit_history(repository, 2)

        def control(method, path, body=None):
            return requests.request(method, f"{server.url}/control/{path}", json=body, timeout=60)

        control("POST", "faults", {"effect": "error", "status": 429, "path": "/tint/*"})
        assert control("GET", "faults").json()[0]["status"] == 429
        assert get_page(server.url, "/tint/+refs").status_code == 429
        control("POST", "hidden", {"commit": new, "times": None})
        assert get_page(server.url, f"/tint/+log/{new}").status_code == 404
        control("DELETE", "hidden", {"commit": new})
        control("POST", "settings", {"zones": True})
        assert fetch_json(server.url, f"/tint/+log/{old}")["log"][0]["author"]["time"].endswith(" +0000")
        assert next(record["path"] for record in control("GET", "requests").json()) == "/tint/+refs"
        control("DELETE", "requests")
        control("DELETE", "faults")
        assert server.requests == []
        assert control("GET", "status").status_code == 200
        for path, body in (("faults", {"effect": "magic"}), ("settings", {"nope": 1}), ("hidden", {})):
            assert control("POST", path, body).status_code == 400
        assert control("PUT", "nothing").status_code == 404
        from_page = {"Origin": "https://evil.example"}
        assert requests.delete(f"{server.url}/control/faults", headers=from_page, timeout=60).status_code == 403
