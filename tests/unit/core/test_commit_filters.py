"""The filters of one commit: each project has its own budget, and does not wait for another project's patterns."""

from collections.abc import Sequence

import pytest

from luci_scheduler.core import commit_filters
from luci_scheduler.core.commit_filters import CommitFilters
from luci_scheduler.core.identifiers import JobId
from luci_scheduler.core.path_filter import compose, path_filter
from luci_scheduler.core.pattern_budget import (
    COMPILE_UNITS,
    ENTRY_UNITS,
    EVALUATION_UNITS,
    PATH_UNITS,
    QUICK_UNITS,
    REF_UNITS,
    PatternBudget,
    PatternCostError,
)
from luci_scheduler.core.ref_sets import ref_set
from luci_scheduler.core.regexps import compile_regexp
from luci_scheduler.core.watcher import Watcher

REPO = "https://r.googlesource.com/repo"
MAIN = "refs/heads/main"
GROUPS = tuple("((((.*))))" * 199 + suffix for suffix in ("", *(f"x{n}" for n in range(8))))
"""Nine patterns of 1,990 characters with 796 groups each."""
LARGE = "(a?){900}(a){900}"
"""2,704 instructions in 17 characters."""
FILES = [(path, path) for path in ("src/tint/lang/wgsl/resolver/resolver_test.cc", "src/tint/BUILD.gn", "docs/x.md")]


def watcher(
    project: str, *paths: str, refs: Sequence[str] = (MAIN,), job: str = "job", exclude: Sequence[str] = ()
) -> Watcher:
    """Return a watcher of a project."""
    return Watcher(JobId(f"{project}/{job}"), JobId(f"{project}/poller"), REPO, tuple(refs), paths, tuple(exclude))


def parts(filters: CommitFilters, watchers: Sequence[Watcher], diff: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the jobs of each part whose path filters pass."""
    return [[item.job_id for item in part] for part in filters.by_paths(watchers, diff)]


def test_patterns_run_without_groups() -> None:
    """With groups, RE2 would repeat its work for each group: 20 seconds for a path of 44 characters."""
    assert len(GROUPS[0]) == 1990
    together = compile_regexp(compose(GROUPS))
    assert together._compiled.groups == 0
    assert together.size < 200
    assert together.search("src/tint/lang/wgsl/resolver/resolver_test.cc")


def test_many_groups_cost_almost_nothing() -> None:
    """A commit of three files takes one thousandth of the quick budget."""
    filters = CommitFilters()
    assert parts(filters, [watcher("evil", *GROUPS), watcher("proj")], FILES) == [["evil/job", "proj/job"]]
    budget = filters._decisions["evil", "quick"].budget
    assert 0 < budget.spent < QUICK_UNITS // 1000


def test_cost_of_an_evaluation() -> None:
    """The instructions for each byte, and a fixed amount per call. It is charged before the work, cached or not."""
    pattern = compile_regexp("src/.+")
    cost = pattern.size * 6 + EVALUATION_UNITS
    budget = PatternBudget(10 * cost)
    for place in range(10):
        assert budget.spent == place * cost
        assert pattern.search("src/é", budget)
    with pytest.raises(PatternCostError, match=f"more than {10 * cost} units"):
        pattern.search("s", budget)


def test_cost_of_compiling() -> None:
    """Each instruction of a program counts, cached or not. For refs, single entries and their joined pattern count."""
    for _ in range(2):
        paths, refs = PatternBudget(10**9), PatternBudget(10**9)
        size = compile_regexp(compose(["src/.+"])).size + compile_regexp(compose(["docs/.+"])).size
        path_filter(("src/.+",), ("docs/.+",), paths)
        assert paths.spent == COMPILE_UNITS * size
        size = compile_regexp(r"refs/heads/v\d+").size + compile_regexp(r"^(refs/heads/v\d+)$").size
        ref_set((MAIN, r"regexp:refs/heads/v\d+"), refs)
        assert refs.spent == ENTRY_UNITS + COMPILE_UNITS * size


def test_the_cost_does_not_depend_on_the_cache() -> None:
    """A replay decides the same, independent of earlier work."""
    spent = []
    for _ in range(2):
        budget = PatternBudget(REF_UNITS)
        entries = (MAIN, r"regexp:refs/heads/release-\d+", r"regexp:refs/tags/v\d+")
        assert ref_set(entries, budget).covers("refs/heads/release-1", budget)
        spent.append(budget.spent)
    assert spent[0] == spent[1] > 8000


def test_costly_refs_leave_out_only_their_project() -> None:
    """All watchers of the project are left out, because it is unknown which of them watch the ref."""
    ref = "refs/heads/" + "b" * 1000
    mine = watcher("proj", refs=[ref])
    evil = [watcher("evil", refs=[f"regexp:refs/heads/x{n}{LARGE}|{ref}"], job=f"job{n}") for n in range(10)]
    filters = CommitFilters()
    assert filters.by_ref([*evil, mine], ref) == [mine]
    assert filters.too_costly == {"evil": tuple(evil)}


def test_several_refs_of_one_commit_are_decided_separately() -> None:
    """The refs are decided one after the other, with the same filters."""
    filters, dev = CommitFilters(), watcher("proj", refs=["refs/heads/dev"])
    assert filters.by_ref([dev], MAIN) == []
    assert filters.by_ref([dev], "refs/heads/dev") == [dev]


def test_slow_projects_are_synced_last() -> None:
    """The caller serves the first part before the next one is evaluated."""
    diff = [("", f"b{n:04}" + "b" * 95) for n in range(240)]
    filters = CommitFilters()
    found = filters.by_paths([watcher("a-slow", f"{LARGE}c"), watcher("proj", "b.+")], diff)
    assert [item.job_id for item in next(found)] == ["proj/job"]
    assert ("a-slow", "paths") not in filters._decisions
    assert [list(part) for part in found] == [[]]
    assert not filters.too_costly


def test_costly_paths_leave_out_only_their_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real limits would take seconds, so the test uses smaller ones."""
    monkeypatch.setattr(commit_filters, "QUICK_UNITS", QUICK_UNITS // 100)
    monkeypatch.setattr(commit_filters, "PATH_UNITS", PATH_UNITS // 1000)
    evil = [watcher("evil", f"{LARGE}c", job="costly"), watcher("evil", job="all")]
    filters = CommitFilters()
    diff = [("", "b" * 100)] * 10
    assert parts(filters, [*evil, watcher("proj", "b.+")], diff) == [["proj/job"]]
    assert filters.too_costly == {"evil": tuple(evil)}


def test_jobs_whose_filters_exclude_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with one watcher that passes, and a job whose patterns cost too much, are not among them."""
    diff = [("README", "README")]
    watchers = [
        watcher("proj", "other", job="out"),
        watcher("proj", "other", job="in"),
        watcher("proj", "README", job="in"),
        watcher("proj", job="unfiltered"),
    ]
    assert CommitFilters().excluded_by_paths(watchers, diff) == {"proj/out"}
    monkeypatch.setattr(commit_filters, "QUICK_UNITS", 1)
    assert CommitFilters().excluded_by_paths(watchers, diff) == set()


def test_the_same_filter_is_counted_once() -> None:
    """A trigger with 500 targets is one filter, and so are triggers with equal patterns."""
    one, many = CommitFilters(), CommitFilters()
    watchers = [watcher("proj", "src/.+", job=f"job{n}", exclude=["docs/.+"]) for n in range(500)]
    assert parts(one, watchers[:1], FILES) == [["proj/job0"]]
    assert len(parts(many, watchers, FILES)[0]) == 500
    assert one._decisions["proj", "quick"].budget.spent == many._decisions["proj", "quick"].budget.spent


def test_ordinary_projects_stay_within_the_limits() -> None:
    """Fifty triggers with different filters and a commit of ten thousand files; a thousand patterns of refs."""
    budget = PatternBudget(PATH_UNITS)
    pattern = compile_regexp(compose(["src/tint/lang/.+"]))
    for _ in range(50):
        budget.charge(10_000 * (pattern.size * 44 + EVALUATION_UNITS))
    refs = PatternBudget(REF_UNITS)
    for n in range(100):
        entries = tuple(rf"regexp:refs/heads/release-{n}-{m}\d+" for m in range(10))
        assert not ref_set(entries, refs).covers(MAIN, refs)


def test_an_invalid_pattern_is_recorded() -> None:
    """The other watchers of its project are not affected."""
    bad = watcher("proj", "(?=x)")
    filters = CommitFilters()
    assert parts(filters, [bad, watcher("proj", "src/.+", job="good")], FILES) == [["proj/good"]]
    assert list(filters.bad) == [bad]
