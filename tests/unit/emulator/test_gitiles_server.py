"""The Gitiles server shows real repositories as Gitiles does."""

import base64
import json
import re
import time
from pathlib import Path

import pytest
import requests

from emulator.gitiles import Entry, GitilesFault, GitilesServer, Person, Repository
from emulator.gitiles.app import dump_json
from emulator.gitiles.repository import SUBMODULE, SYMLINK

SAMPLES = Path(__file__).parents[2] / "samples"
GUARD = ")]}'\n"
SECOND = 10**9
MONDAY = 1_773_756_297 * SECOND
LONG = "".join(f"line {number}\n" for number in range(50))


@pytest.fixture
def repository(tmp_path):
    """An empty repository named tint."""
    return Repository.create(tmp_path / "tint")


@pytest.fixture
def server(tmp_path):
    """A server of the repositories in a folder."""
    server = GitilesServer(tmp_path)
    server.start()
    yield server
    server.stop()


def fetch(server, path, **query):
    """Ask for a page in JSON."""
    return requests.get(f"{server.url}{path}", params={"format": "JSON", **query}, timeout=5)


def read(server, path, **query):
    """Ask for a page and return its JSON."""
    response = fetch(server, path, **query)
    assert response.status_code == 200, response.text
    assert response.text.startswith(GUARD)
    return json.loads(response.text.removeprefix(GUARD))


def hashes(page):
    """Return the commits of a log's page."""
    return [entry["commit"] for entry in page["log"]]


def history(repository, count, branch="main"):
    """Make some commits and return their hashes, newest first."""
    return [
        repository.commit(f"Commit {n}\n", {"file": f"{branch} {n}"}, branch, at=MONDAY + n * SECOND)
        for n in range(count)
    ][::-1]


class TestLog:
    """Ranges, pages and what a commit looks like."""

    def test_range(self, server, repository):
        """A range is newest first and leaves out what is reachable from its old end; both ways back it is empty."""
        new, middle, old = history(repository, 3)
        assert hashes(read(server, f"/tint/+log/{old}..{new}")) == [new, middle]
        assert read(server, f"/tint/+log/{new}..{old}") == {"log": []}
        assert read(server, f"/tint/+log/{new}..{new}") == {"log": []}
        for revision in (new, new[:10], "main", "refs/heads/main", "HEAD", "main^0"):
            assert hashes(read(server, f"/tint/+log/{revision}")) == [new, middle, old]
        assert hashes(read(server, "/tint/+log/main~1")) == hashes(read(server, "/tint/+log/main%5E")) == [middle, old]

    def test_commit(self, server, repository):
        """A commit has its tree, parents, both people with times in UTC, and the whole message."""
        bot = Person("Tint LUCI CQ", "cq@example.com")
        root = repository.commit("root", {"a": "1"}, at=MONDAY)
        sha = repository.commit(
            "Subject\n\nBody: é\n", {"a": "2"}, author=Person("Ben", "ben@e.x", 60), committer=bot, at=MONDAY
        )
        entry = read(server, f"/tint/+log/{root}..{sha}")["log"][0]
        assert entry.pop("tree") == repository.resolve(f"{sha}^{{tree}}")
        assert entry == {
            "commit": sha,
            "parents": [root],
            "author": {"name": "Ben", "email": "ben@e.x", "time": "Tue Mar 17 14:04:57 2026"},
            "committer": {"name": "Tint LUCI CQ", "email": "cq@example.com", "time": "Tue Mar 17 14:04:57 2026"},
            "message": "Subject\n\nBody: é\n",
        }
        server.zones = True
        shown = read(server, f"/tint/+log/{root}..{sha}")["log"][0]
        assert shown["author"]["time"] == "Tue Mar 17 15:04:57 2026 +0100"
        assert shown["committer"]["time"] == "Tue Mar 17 14:04:57 2026 +0000"

    def test_root_and_names(self, server, repository):
        """A root commit has no parents; names may be empty."""
        sha = repository.commit("x", {"a": "1"}, author=Person("", "e@x", -150), at=5 * SECOND)
        entry = read(server, f"/tint/+log/{sha}")["log"][0]
        assert (entry["parents"], entry["author"]) == (
            [],
            {"name": "", "email": "e@x", "time": "Thu Jan 01 00:00:05 1970"},
        )

    def test_encodings(self, server, repository):
        """Messages are decoded by the commit's own charset; what cannot be decoded is replaced."""
        latin = repository.commit("caf\u00e9".encode("latin-1"), {"a": "1"}, encoding="ISO-8859-1")
        broken = repository.commit(b"caf\xe9", {"a": "2"})
        unknown = repository.commit("caf\u00e9".encode(), {"a": "3"}, encoding="no-such-charset")
        messages = {entry["commit"]: entry["message"] for entry in read(server, "/tint/+log/main")["log"]}
        assert messages == {latin: "café", broken: "caf\ufffd", unknown: "café"}

    def test_pages(self, server, repository):
        """Pages join without gap or overlap; next is absent on the last, also when it is full; previous needs s."""
        commits = history(repository, 7)
        seen, start, previous = [], None, []
        while True:
            page = read(server, "/tint/+log/main", n=3, **({"s": start} if start else {}))
            seen += hashes(page)
            previous.append(page.get("previous"))
            start = page.get("next")
            if start is None:
                break
        assert seen == commits
        assert previous == [None, commits[0], commits[3]]
        full = read(server, f"/tint/+log/{commits[6]}..main", n=3, s=commits[3])
        assert (hashes(full), "next" in full) == (commits[3:6], False)

    @pytest.mark.parametrize(("n", "count"), [("x", 7), ("", 7), ("99999", 7), ("2", 2)])
    def test_page_size(self, server, repository, n, count):
        """A size that is no number is the default."""
        history(repository, 7)
        assert len(read(server, "/tint/+log/main", n=n)["log"]) == count

    def test_bad_pages(self, server, repository):
        """A size of zero is an error, a wrong start not found, one outside the range an empty page."""
        commits = history(repository, 3)
        other = history(repository, 1, "other")[0]
        assert fetch(server, "/tint/+log/main", n=0).status_code == 500
        assert fetch(server, "/tint/+log/main", n=-1).status_code == 500
        assert fetch(server, "/tint/+log/main", s="0" * 40).status_code == 404
        assert fetch(server, "/tint/+log/main", s=commits[:2]).status_code == 404
        assert read(server, "/tint/+log/main", s=other) == {"log": []}
        assert hashes(read(server, "/tint/+log/main", s=commits[1][:12])) == commits[1:]

    def test_merges(self, server, repository):
        """A range holds both sides of a merge; flags leave out one of them, or the merge itself."""
        root = repository.commit("root", {"a": "1"}, at=MONDAY)
        left = repository.commit("left", {"a": "2"}, at=MONDAY + SECOND)
        right = repository.commit("right", {"b": "1"}, "side", parents=[root], at=MONDAY + 2 * SECOND)
        merge = repository.commit("Merge", {"b": "1"}, parents=[left, right], at=MONDAY + 3 * SECOND)
        page = read(server, f"/tint/+log/{root}..main", **{"name-status": "1"})
        assert hashes(page) == [merge, right, left]
        assert page["log"][0]["parents"] == [left, right]
        assert page["log"][0]["tree_diff"] == []
        assert hashes(read(server, f"/tint/+log/{root}..main", **{"first-parent": ""})) == [merge, left]
        assert hashes(read(server, f"/tint/+log/{root}..main", **{"no-merges": "1"})) == [right, left]
        assert hashes(read(server, f"/tint/+log/{root}..main", reverse="1")) == [left, right, merge]
        assert hashes(read(server, f"/tint/+log/{root}..main", author="nobody")) == []

    def test_paths(self, server, repository):
        """A path may follow the revision, whose own name may hold slashes."""
        first = repository.commit("1", {"dir/a": LONG}, "release/1", at=MONDAY)
        second = repository.commit("2", {"b": "1"}, "release/1", at=MONDAY + SECOND)
        moved = repository.commit("3", {"dir/a": None, "dir/c": LONG}, "release/1", at=MONDAY + 2 * SECOND)
        assert hashes(read(server, "/tint/+log/refs/heads/release/1/dir")) == [moved, first]
        assert hashes(read(server, f"/tint/+log/{first}..release/1/b")) == [second]
        assert hashes(read(server, "/tint/+log/release/1/dir/c", follow="1")) == [moved, first]


class TestTreeDiff:
    """What a commit changes."""

    def diff(self, server, sha):
        """Return the differences by path."""
        changes = read(server, f"/tint/+log/{sha}", n=1, **{"name-status": "1"})["log"][0]["tree_diff"]
        return {change["new_path"] if change["type"] != "delete" else change["old_path"]: change for change in changes}

    def test_kinds(self, server, repository):
        """Modes are decimal, absent sides are /dev/null, only renames and copies have a score."""
        repository.commit("1", {"kept": "1", "changed": "1", "gone": "never again", "old name": LONG, "mode": "#!"})
        sha = repository.commit(
            "2",
            {
                "changed": "2", "gone": None, "old name": None, "new name": LONG + "x\n", "mode": Entry(b"#!", 0o100755),
                "link": Entry(b"kept", SYMLINK), "module": Entry(b"a" * 40, SUBMODULE), "dir/ü\t.txt": "1",
            },
        )  # fmt: skip
        changes = self.diff(server, sha)
        kinds = {path: (change["type"], change["old_mode"], change["new_mode"]) for path, change in changes.items()}
        assert kinds == {
            "changed": ("modify", 33188, 33188),
            "gone": ("delete", 33188, 0),
            "new name": ("rename", 33188, 33188),
            "mode": ("modify", 33188, 33261),
            "link": ("add", 0, 40960),
            "module": ("add", 0, 57344),
            "dir/ü\t.txt": ("add", 0, 33188),
        }
        assert [path for path, change in changes.items() if "score" in change] == ["new name"]
        assert 90 < changes["new name"]["score"] < 100
        assert changes["new name"]["old_path"] == "old name"
        assert (changes["gone"]["new_path"], changes["gone"]["new_id"]) == ("/dev/null", "0" * 40)
        assert (changes["link"]["old_path"], changes["link"]["old_id"]) == ("/dev/null", "0" * 40)

    def test_root(self, server, repository):
        """A root commit adds everything; without name-status there is no list at all."""
        sha = repository.commit("1", {"a": "1", "b/c": "2"})
        assert {path: change["type"] for path, change in self.diff(server, sha).items()} == {"a": "add", "b/c": "add"}
        assert "tree_diff" not in read(server, f"/tint/+log/{sha}")["log"][0]

    def test_type_change(self, server, repository):
        """A file that becomes a link is deleted and added."""
        repository.commit("1", {"a": "1"})
        sha = repository.commit("2", {"a": Entry(b"b", SYMLINK)})
        changes = read(server, f"/tint/+/{sha}")["tree_diff"]
        assert [(change["type"], change["new_mode"]) for change in changes] == [("delete", 0), ("add", 40960)]

    def test_several_commits(self, server, repository):
        """Each commit of a page has its own differences."""
        for name in "abc":
            repository.commit(name, {name: name})
        page = read(server, "/tint/+log/main", **{"name-status": ""})
        assert [[change["new_path"] for change in entry["tree_diff"]] for entry in page["log"]] == [["c"], ["b"], ["a"]]


class TestRefs:
    """Refs."""

    @pytest.fixture
    def refs(self, repository):
        """Branches and tags of all kinds; returns the commits by name."""
        main, release = history(repository, 2)
        repository.force_push("release/1", release)
        repository.force_push("refs/changes/65/198765/3", main)
        return {
            "main": main,
            "release": release,
            "v1": repository.tag("v1", release, "annotated"),
            "light": repository.tag("light", main),
        }

    def test_all(self, server, refs):
        """Without a prefix the names are full, HEAD with its target, tags with what they stand for; ordered by name."""
        shown = read(server, "/tint/+refs")
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
    def test_prefix(self, server, refs, path):
        """Below a prefix names are relative, however the slash is written."""
        assert read(server, f"/tint/{path}") == {
            "main": {"value": refs["main"]},
            "release/1": {"value": refs["release"]},
        }

    def test_exact_and_none(self, server, refs):
        """The very ref comes under its full name; what nobody uses is an empty object."""
        assert read(server, "/tint/+refs/heads/main") == {"refs/heads/main": {"value": refs["main"]}}
        assert read(server, "/tint/+refs/heads/release") == {"1": {"value": refs["release"]}}
        assert fetch(server, "/tint/+refs/hea").text == (SAMPLES / "gitiles-refs-none.body.txt").read_text()

    def test_moves(self, server, repository, refs):
        """Refs that are moved, made and deleted show at once; an empty repository has none, not even HEAD."""
        repository.force_push("main", refs["release"])
        repository.delete_ref("release/1")
        assert read(server, "/tint/+refs/heads") == {"main": {"value": refs["release"]}}
        Repository.create(repository.path.parent / "empty")
        assert read(server, "/empty/+refs") == {}


class TestForcePush:
    """What a poller meets when history is rewritten."""

    def test_unrelated_history(self, server, repository):
        """Once the old history is gone, the range and its old end are not found, the new end is."""
        old = history(repository, 2)[0]
        new = repository.commit("other", {"b": "1"}, parents=[])
        assert hashes(read(server, f"/tint/+log/{old}..{new}")) == [new]
        repository.prune()
        assert fetch(server, f"/tint/+log/{old}..{new}").status_code == 404
        assert fetch(server, f"/tint/+log/{old}", n=1).status_code == 404
        assert hashes(read(server, f"/tint/+log/{new}", n=1)) == [new]

    def test_not_yet_visible(self, server, repository):
        """A hidden commit is not found for so many requests, although its ref shows; then it heals."""
        new, old = history(repository, 2)
        server.faults.hide(new, times=2)
        assert read(server, "/tint/+refs/heads") == {"main": {"value": new}}
        statuses = [fetch(server, f"/tint/+log/{old}..{new}").status_code for _ in range(3)]
        assert statuses == [404, 404, 200]
        server.faults.hide(old)
        assert fetch(server, f"/tint/+log/{old}..{new}").status_code == 404
        assert fetch(server, f"/tint/+log/{new}").status_code == 200
        server.faults.reveal(old)
        assert fetch(server, f"/tint/+log/{old}..{new}").status_code == 200


class TestErrors:
    """Errors and faults."""

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/nope/+log/main", 404), ("/tint/+log/nope", 404), (f"/tint/+log/{'d' * 40}..main", 404), ("/tint/+log/main..nope", 404),
            ("/tint/+nope/main", 404), ("/tint/+log/main...other", 404), ("/tint/+log/-n", 404), ("/tint/+log/main:file", 404),
            ("/tint/..%2Ftint/+log/main", 404), ("/tint", 400), ("/tint/+/main/nope", 404),
            ("/tint/+log/..main", 404), ("/tint/+log/main@%7B0%7D", 404),
        ],
    )  # fmt: skip
    def test_not_found(self, server, repository, path, status):
        """What is unknown or cannot be read is refused in plain text, never in JSON."""
        history(repository, 1)
        response = fetch(server, path)
        assert response.status_code == status
        assert not response.headers["Content-Type"].startswith("application/json")
        assert not response.text.startswith(GUARD)

    @pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
    def test_hosted_texts(self, server, tmp_path, status):
        """The hosted service's errors are as recorded, but for the request's id."""
        Repository.create(tmp_path / "tint")
        server.faults.add(GitilesFault("error", status=status))
        recorded = json.loads((SAMPLES / f"gitiles-error-{status}.http.json").read_text())["response"]
        response = fetch(server, f"/a/tint/+log/{'de' * 20}..main")
        masked = re.compile(r'request_id: "[0-9a-f]{32}"')
        assert response.status_code == recorded["status"]
        assert response.headers["Content-Type"] == recorded["headers"]["Content-Type"]
        assert masked.sub("", response.text) == masked.sub("", recorded["body"])
        assert fetch(server, "/a/tint/+refs").status_code == 200

    def test_ambiguous(self, server, repository):
        """A short hash that several commits share is 400, as recorded."""
        prefixes = {}
        for number in range(2000):
            sha = self.loose_commit(repository, number)
            if prefixes.setdefault(sha[:4], sha) != sha:
                break
        recorded = json.loads((SAMPLES / "gitiles-error-400.http.json").read_text())["response"]
        response = fetch(server, f"/tint/+log/{sha[:4]}")
        assert (response.status_code, response.text) == (recorded["status"], recorded["body"])
        assert response.headers.items() >= recorded["headers"].items()

    def test_open_form(self, tmp_path, repository):
        """Open Gitiles tells a code in a header."""
        server = GitilesServer(tmp_path, errors="open")
        server.start()
        history(repository, 1)
        assert fetch(server, "/nope/+refs").headers["X-Gitiles-Error"] == "REPOSITORY_NOT_FOUND"
        assert fetch(server, "/tint/+log/nope").headers["X-Gitiles-Error"] == "OBJECT_NOT_FOUND"
        assert fetch(server, "/tint/+nope").headers["X-Gitiles-Error"] == "CANNOT_PARSE_GITILES_VIEW"
        server.stop()

    def test_formats(self, server, repository):
        """The format is JSON in either case, HTML without; an unknown one is 400, and so is a page that has none."""
        history(repository, 1)
        assert requests.get(f"{server.url}/tint/+refs?format=json", timeout=5).text.startswith(GUARD)
        html = requests.get(f"{server.url}/tint/+log/main", timeout=5)
        assert html.headers["Content-Type"] == "text/html; charset=utf-8"
        unknown = requests.get(f"{server.url}/tint/+log/main?format=XML", timeout=5)
        assert (unknown.status_code, unknown.headers["X-Gitiles-Error"]) == (400, "UNSUPPORTED_RESPONSE_FORMAT")
        assert fetch(server, "/tint/+/main/file").status_code == 400
        assert requests.post(f"{server.url}/tint/+log/main", timeout=5).status_code == 405

    def test_faults(self, server, repository):
        """Connections break, answers break off or are late, by path and so many times."""
        history(repository, 3)
        server.faults.add(GitilesFault("cut", "/tint/+log/*"))
        assert fetch(server, "/a/tint/+refs").status_code == 200
        with pytest.raises(requests.ConnectionError):
            fetch(server, "/a/tint/+log/main")
        server.faults.add(GitilesFault("cut_body", times=1))
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            fetch(server, "/tint/+log/main")
        server.faults.add(GitilesFault("slow", seconds=0.05))
        begin = time.monotonic()
        assert fetch(server, "/tint/+log/main").status_code == 200
        assert time.monotonic() - begin >= 0.05
        assert [record.status for record in server.requests] == [200, 0, 200, 200]

    def test_tokens(self, server, repository):
        """With strict tokens /a needs a known one; without /a nobody looks."""
        history(repository, 1)
        server.strict_auth = True
        assert fetch(server, "/tint/+refs").status_code == 200
        assert fetch(server, "/a/tint/+refs").status_code == 401
        headers = {"Authorization": "Bearer fake:a@b.c"}
        assert requests.get(f"{server.url}/a/tint/+refs?format=JSON", headers=headers, timeout=5).status_code == 200
        assert [record.authenticated for record in server.requests] == [False, True, True]

    @staticmethod
    def loose_commit(repository, number):
        """Return the hash of one more root commit."""
        return repository.commit(f"{number}", {}, f"n{number % 3}", parents=[])


class TestPlaces:
    """Which repository a path means."""

    def test_hosts_and_names(self, server, tmp_path):
        """Several hosts, nested names, names with .git, bare or not, all with or without /a."""
        plain = Repository.create(tmp_path / "dawn.googlesource.com" / "tint", bare=False)
        nested = Repository.create(tmp_path / "chromium.googlesource.com" / "chromium" / "src.git")
        shas = {plain: history(plain, 1)[0], nested: history(nested, 1, "other")[0]}
        dawn, chromium = server.url_of("dawn.googlesource.com"), server.url_of("chromium.googlesource.com")
        for url in (f"{dawn}/tint", f"{dawn}/a/tint", f"{dawn}/a/tint.git"):
            reply = requests.get(f"{url}/+refs/heads?format=JSON", timeout=5).text
            assert json.loads(reply.removeprefix(GUARD)) == {"main": {"value": shas[plain]}}
        reply = requests.get(f"{chromium}/a/chromium%2Fsrc/+log/other?format=JSON", timeout=5).text
        assert hashes(json.loads(reply.removeprefix(GUARD))) == [shas[nested]]
        assert requests.get(f"{dawn}/a/chromium/src/+refs?format=JSON", timeout=5).status_code == 404
        assert requests.get(f"{server.url_of('nowhere')}/a/tint/+refs?format=JSON", timeout=5).status_code == 404
        assert [record.host for record in server.requests[:4]] == ["dawn.googlesource.com"] * 3 + [
            "chromium.googlesource.com"
        ]

    def test_projects(self, server, tmp_path):
        """The list of projects tells name, address and, if there is one, description."""
        Repository.create(tmp_path / "h" / "a" / "b.git")
        Repository.create(tmp_path / "h" / "c")
        (tmp_path / "h" / "c" / "description").write_text("A project\n")
        reply = requests.get(f"{server.url_of('h')}/?format=JSON", timeout=5).text
        assert json.loads(reply.removeprefix(GUARD)) == {
            "a/b": {"name": "a/b", "clone_url": "https://h/a/b"},
            "c": {"name": "c", "clone_url": "https://h/c", "description": "A project"},
        }

    def test_one_commit_tree_and_file(self, server, repository):
        """One commit always has its differences; a folder is listed; files come in base64."""
        sha = repository.commit("1", {"dir/a": "hello", "run": Entry(b"#!", 0o100755)})
        shown = read(server, f"/tint/+/{sha}")
        assert (shown["commit"], len(shown["tree_diff"])) == (sha, 2)
        entries = read(server, f"/tint/+/{sha}/")["entries"]
        assert [(entry["name"], entry["type"], entry["mode"]) for entry in entries] == [
            ("dir", "tree", 16384),
            ("run", "blob", 33261),
        ]
        assert [entry["name"] for entry in read(server, "/tint/+/main/dir")["entries"]] == ["a"]
        text = requests.get(f"{server.url}/tint/+/main/dir/a?format=TEXT", timeout=5)
        assert base64.b64decode(text.content) == b"hello"
        assert (text.headers["X-Gitiles-Path-Mode"], text.headers["X-Gitiles-Object-Type"]) == ("100644", "blob")
        raw = requests.get(f"{server.url}/tint/+/main?format=TEXT", timeout=5)
        assert base64.b64decode(raw.content).startswith(b"tree ")
        assert (
            requests.get(f"{server.url}/tint/+/main/dir?format=TEXT", timeout=5).headers["X-Gitiles-Object-Type"]
            == "tree"
        )

    def test_headers(self, server, repository):
        """Pages of a commit by its hash may be cached, others not; large ones are compressed for who accepts it."""
        commits = history(repository, 10)
        by_hash, by_name = fetch(server, f"/tint/+log/{commits[2]}..{commits[0]}"), fetch(server, "/tint/+log/main")
        assert by_hash.headers["Cache-Control"].startswith("private, max-age=7200")
        assert by_name.headers["Cache-Control"].startswith("no-cache")
        assert by_name.headers["Content-Encoding"] == "gzip"
        assert by_name.headers["Content-Disposition"] == "attachment"
        assert by_name.headers["Content-Type"].startswith("application/json")

    def test_control(self, server, repository):
        """Faults, hidden commits and settings can be switched over HTTP."""
        new, old = history(repository, 2)

        def control(method, path, body=None):
            return requests.request(method, f"{server.url}/control/{path}", json=body, timeout=5)

        control("POST", "faults", {"effect": "error", "status": 429, "path": "/tint/*"})
        assert control("GET", "faults").json()[0]["status"] == 429
        assert fetch(server, "/tint/+refs").status_code == 429
        control("POST", "hidden", {"commit": new, "times": None})
        assert fetch(server, f"/tint/+log/{new}").status_code == 404
        control("DELETE", "hidden", {"commit": new})
        control("POST", "settings", {"zones": True})
        assert read(server, f"/tint/+log/{old}")["log"][0]["author"]["time"].endswith(" +0000")
        assert next(record["path"] for record in control("GET", "requests").json()) == "/tint/+refs"
        control("DELETE", "requests")
        control("DELETE", "faults")
        assert server.requests == []
        assert control("GET", "status").status_code == 200
        for path, body in (("faults", {"effect": "magic"}), ("settings", {"nope": 1}), ("hidden", {})):
            assert control("POST", path, body).status_code == 400
        assert control("PUT", "nothing").status_code == 404


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("gitiles-*.body.txt")), ids=lambda path: path.name)
def test_json_is_written_as_recorded(path):
    """Every recorded body is reproduced byte for byte: guard line, indents, escapes."""
    recorded = path.read_text()
    assert f"{GUARD}{dump_json(json.loads(recorded.removeprefix(GUARD)))}\n" == recorded


def test_escapes():
    """Characters that matter in HTML or JavaScript are escaped, others are not; a parser undoes it."""
    value = {"k": "<a href='x'>&=\u2028é\""}
    text = dump_json(value)
    assert text == '{\n  "k": "\\u003ca href\\u003d\\u0027x\\u0027\\u003e\\u0026\\u003d\\u2028é\\""\n}'
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "name", ["log-range-tree-diff", "log-merge-commit-tree-diff", "log-page-1", "log-page-2", "refs-all"]
)
def test_same_fields_in_the_same_order(server, repository, name):
    """A page of a like repository has the recorded page's fields, in its order."""
    recorded = json.loads((SAMPLES / f"gitiles-{name}.body.txt").read_text().removeprefix(GUARD))
    root = repository.commit("root", {"a": "1", "old": LONG})
    middle = repository.commit("2", {"a": "2"})
    repository.commit("3", {"a": "3", "old": None, "new": LONG + "x"}, at=SECOND)
    repository.tag("v1.0", root, "t")
    if name == "log-merge-commit-tree-diff":
        repository.commit("m", {}, parents=[middle, repository.commit("s", {"s": ""}, "side", parents=[root])])
    paths = {
        "log-range-tree-diff": f"/tint/+log/{root}..main?name-status=1",
        "log-merge-commit-tree-diff": "/tint/+log/main?n=1&name-status=1",
        "log-page-1": f"/tint/+log/{root}..main?n=1",
        "log-page-2": f"/tint/+log/{root}..main?n=1&s={middle}",
        "refs-all": "/tint/+refs",
    }
    shown = read(server, paths[name])
    if name == "log-merge-commit-tree-diff":
        shown.pop("next")
    if name == "refs-all":
        assert [list(ref) for ref in shown.values()][::2] == [["value", "target"], ["value", "peeled"]]
        return
    assert list(shown) == list(recorded)
    assert [list(entry) for entry in shown["log"]] == [list(entry) for entry in recorded["log"]][: len(shown["log"])]
    changes = [change for entry in recorded["log"] for change in entry.get("tree_diff", [])]
    kinds = {change["type"]: list(change) for change in changes}
    for change in (change for entry in shown["log"] for change in entry.get("tree_diff", [])):
        assert list(change) == kinds[change["type"]]
