"""The Gitiles server shows the history of real repositories like Gitiles."""

import json
from pathlib import Path

import pytest

from emulator.gitiles import Entry, Person
from emulator.gitiles.app import dump_json
from emulator.gitiles.repository import SUBMODULE, SYMLINK
from emulator.gitiles.testing import GUARD, commit_history, fetch_json, get_page, page_commits

SAMPLES = Path(__file__).parents[3] / "samples"
SECOND = 10**9
MONDAY = 1_773_756_297 * SECOND
LONG = "".join(f"line {number}\n" for number in range(50))


class TestLog:
    """Ranges, pages and commits."""

    def test_a_range_is_newest_first(self, server, repository):
        """A range is newest first and excludes commits reachable from its old end. The reversed range is empty."""
        new, middle, old = commit_history(repository, 3)
        assert page_commits(fetch_json(server.url, f"/tint/+log/{old}..{new}")) == [new, middle]
        assert fetch_json(server.url, f"/tint/+log/{new}..{old}") == {"log": []}
        assert fetch_json(server.url, f"/tint/+log/{new}..{new}") == {"log": []}
        for revision in (new, new[:10], "main", "refs/heads/main", "HEAD", "main^0"):
            assert page_commits(fetch_json(server.url, f"/tint/+log/{revision}")) == [new, middle, old]
        assert (
            page_commits(fetch_json(server.url, "/tint/+log/main~1"))
            == page_commits(fetch_json(server.url, "/tint/+log/main%5E"))
            == [middle, old]
        )

    def test_a_commit_has_all_its_parts(self, server, repository):
        """A commit has its tree, parents, author and committer with times in UTC, and the whole message."""
        bot = Person("Tint LUCI CQ", "cq@example.com")
        root = repository.commit("root", {"a": "1"}, at=MONDAY)
        sha = repository.commit(
            "Subject\n\nBody: é\n", {"a": "2"}, author=Person("Ben", "ben@e.x", 60), committer=bot, at=MONDAY
        )
        entry = fetch_json(server.url, f"/tint/+log/{root}..{sha}")["log"][0]
        assert entry.pop("tree") == repository.resolve(f"{sha}^{{tree}}")
        assert entry == {
            "commit": sha,
            "parents": [root],
            "author": {"name": "Ben", "email": "ben@e.x", "time": "Tue Mar 17 14:04:57 2026"},
            "committer": {"name": "Tint LUCI CQ", "email": "cq@example.com", "time": "Tue Mar 17 14:04:57 2026"},
            "message": "Subject\n\nBody: é\n",
        }
        server.zones = True
        shown = fetch_json(server.url, f"/tint/+log/{root}..{sha}")["log"][0]
        assert shown["author"]["time"] == "Tue Mar 17 15:04:57 2026 +0100"
        assert shown["committer"]["time"] == "Tue Mar 17 14:04:57 2026 +0000"

    def test_root_and_names(self, server, repository):
        """A root commit has no parents; names may be empty."""
        sha = repository.commit("x", {"a": "1"}, author=Person("", "e@x", -150), at=5 * SECOND)
        entry = fetch_json(server.url, f"/tint/+log/{sha}")["log"][0]
        assert (entry["parents"], entry["author"]) == (
            [],
            {"name": "", "email": "e@x", "time": "Thu Jan 01 00:00:05 1970"},
        )

    def test_messages_are_decoded_by_their_charset(self, server, repository):
        """Messages are decoded by the commit's charset, with replacements for invalid bytes."""
        latin = repository.commit("caf\u00e9".encode("latin-1"), {"a": "1"}, encoding="ISO-8859-1")
        broken = repository.commit(b"caf\xe9", {"a": "2"})
        unknown = repository.commit("caf\u00e9".encode(), {"a": "3"}, encoding="no-such-charset")
        messages = {entry["commit"]: entry["message"] for entry in fetch_json(server.url, "/tint/+log/main")["log"]}
        assert messages == {latin: "café", broken: "caf\ufffd", unknown: "café"}

    def test_pages_join_without_gap_or_overlap(self, server, repository):
        """Pages join without gap or overlap. The last page has no next, even if it is full; previous needs s."""
        commits = commit_history(repository, 7)
        seen, start, previous = [], None, []
        while True:
            page = fetch_json(server.url, "/tint/+log/main", n=3, **({"s": start} if start else {}))
            seen += page_commits(page)
            previous.append(page.get("previous"))
            start = page.get("next")
            if start is None:
                break
        assert seen == commits
        assert previous == [None, commits[0], commits[3]]
        full = fetch_json(server.url, f"/tint/+log/{commits[6]}..main", n=3, s=commits[3])
        assert (page_commits(full), "next" in full) == (commits[3:6], False)

    @pytest.mark.parametrize(("n", "count"), [("x", 7), ("", 7), ("99999", 7), ("2", 2)])
    def test_page_size(self, server, repository, n, count):
        """A size that is not a number means the default."""
        commit_history(repository, 7)
        assert len(fetch_json(server.url, "/tint/+log/main", n=n)["log"]) == count

    def test_bad_pages(self, server, repository):
        """A size of zero is an error, a wrong start is not found, and a start outside the range gives an empty page."""
        commits = commit_history(repository, 3)
        other = commit_history(repository, 1, "other")[0]
        assert get_page(server.url, "/tint/+log/main", n=0).status_code == 500
        assert get_page(server.url, "/tint/+log/main", n=-1).status_code == 500
        assert get_page(server.url, "/tint/+log/main", s="0" * 40).status_code == 404
        assert get_page(server.url, "/tint/+log/main", s=commits[:2]).status_code == 404
        assert fetch_json(server.url, "/tint/+log/main", s=other) == {"log": []}
        assert page_commits(fetch_json(server.url, "/tint/+log/main", s=commits[1][:12])) == commits[1:]

    def test_a_range_includes_both_sides_of_a_merge(self, server, repository):
        """A range includes both sides of a merge. Flags exclude one side or the merge itself."""
        root = repository.commit("root", {"a": "1"}, at=MONDAY)
        left = repository.commit("left", {"a": "2"}, at=MONDAY + SECOND)
        right = repository.commit("right", {"b": "1"}, "side", parents=[root], at=MONDAY + 2 * SECOND)
        merge = repository.commit("Merge", {"b": "1"}, parents=[left, right], at=MONDAY + 3 * SECOND)
        page = fetch_json(server.url, f"/tint/+log/{root}..main", **{"name-status": "1"})
        assert page_commits(page) == [merge, right, left]
        assert page["log"][0]["parents"] == [left, right]
        assert page["log"][0]["tree_diff"] == []
        assert page_commits(fetch_json(server.url, f"/tint/+log/{root}..main", **{"first-parent": ""})) == [merge, left]
        assert page_commits(fetch_json(server.url, f"/tint/+log/{root}..main", **{"no-merges": "1"})) == [right, left]
        assert page_commits(fetch_json(server.url, f"/tint/+log/{root}..main", reverse="1")) == [left, right, merge]
        assert page_commits(fetch_json(server.url, f"/tint/+log/{root}..main", author="nobody")) == []

    def test_a_path_may_follow_the_revision(self, server, repository):
        """A path may follow the revision, whose name may contain slashes."""
        first = repository.commit("1", {"dir/a": LONG}, "release/1", at=MONDAY)
        second = repository.commit("2", {"b": "1"}, "release/1", at=MONDAY + SECOND)
        moved = repository.commit("3", {"dir/a": None, "dir/c": LONG}, "release/1", at=MONDAY + 2 * SECOND)
        assert page_commits(fetch_json(server.url, "/tint/+log/refs/heads/release/1/dir")) == [moved, first]
        assert page_commits(fetch_json(server.url, f"/tint/+log/{first}..release/1/b")) == [second]
        assert page_commits(fetch_json(server.url, "/tint/+log/release/1/dir/c", follow="1")) == [moved, first]


class TestTreeDiff:
    """The differences of a commit."""

    def diff(self, server, sha):
        """Return the differences by path."""
        changes = fetch_json(server.url, f"/tint/+log/{sha}", n=1, **{"name-status": "1"})["log"][0]["tree_diff"]
        return {change["new_path"] if change["type"] != "delete" else change["old_path"]: change for change in changes}

    def test_each_kind_of_change_has_its_form(self, server, repository):
        """Modes are decimal, absent sides are /dev/null, and only renames and copies have a score."""
        repository.commit("1", {"kept": "1", "changed": "1", "gone": "never again", "old name": LONG, "mode": "#!"})
        sha = repository.commit(
            "2",
            {
                "changed": "2", "gone": None, "old name": None, "new name": LONG + "x\n",
                "mode": Entry(b"#!", 0o100755),
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

    def test_a_root_commit_adds_all_its_files(self, server, repository):
        """A root commit adds all its files; without name-status there is no list."""
        sha = repository.commit("1", {"a": "1", "b/c": "2"})
        assert {path: change["type"] for path, change in self.diff(server, sha).items()} == {"a": "add", "b/c": "add"}
        assert "tree_diff" not in fetch_json(server.url, f"/tint/+log/{sha}")["log"][0]

    def test_type_change(self, server, repository):
        """A file that becomes a link is deleted and added."""
        repository.commit("1", {"a": "1"})
        sha = repository.commit("2", {"a": Entry(b"b", SYMLINK)})
        changes = fetch_json(server.url, f"/tint/+/{sha}")["tree_diff"]
        assert [(change["type"], change["new_mode"]) for change in changes] == [("delete", 0), ("add", 40960)]

    def test_several_commits(self, server, repository):
        """Each commit of a page has its own differences."""
        for name in "abc":
            repository.commit(name, {name: name})
        page = fetch_json(server.url, "/tint/+log/main", **{"name-status": ""})
        assert [[change["new_path"] for change in entry["tree_diff"]] for entry in page["log"]] == [["c"], ["b"], ["a"]]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("gitiles-*.body.txt")), ids=lambda path: path.name)
def test_json_is_written_as_recorded(path):
    """Each recorded body is reproduced byte for byte: guard line, indentation, escapes."""
    recorded = path.read_text()
    assert f"{GUARD}{dump_json(json.loads(recorded.removeprefix(GUARD)))}\n" == recorded


def test_special_characters_are_escaped():
    """Characters that are special in HTML or JavaScript are escaped, others are not; a parser restores them."""
    value = {"k": "<a href='x'>&=\u2028é\""}
    text = dump_json(value)
    assert text == '{\n  "k": "\\u003ca href\\u003d\\u0027x\\u0027\\u003e\\u0026\\u003d\\u2028é\\""\n}'
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "name", ["log-range-tree-diff", "log-merge-commit-tree-diff", "log-page-1", "log-page-2", "refs-all"]
)
def test_same_fields_in_the_same_order(server, repository, name):
    """A page of a similar repository has the fields of the recorded page, in the same order."""
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
    shown = fetch_json(server.url, paths[name])
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
