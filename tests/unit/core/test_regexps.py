"""Patterns of configs: RE2's language, bounded cost, and the literal prefix of all matches."""

import pytest

from luci_scheduler.core.regexps import MAX_LENGTH, BadRegexpError, compile_regexp, literal_prefix

PREFIXES = [
    (r"refs/branch[-_]heads/\d+", ("refs/branch", False)),
    (r"refs/foo\.bar/\d+", ("refs/foo.bar/", False)),
    (r"refs/branch-heads/(6\.8|6\.9)\.\d+", ("refs/branch-heads/6.", False)),
    (r"refs/h[e]ad(s)/m[a]ster", ("refs/heads/master", True)),
    (r"refs/(?:heads)/(?P<name>x)", ("refs/heads/x", True)),
    (".*", ("", False)),
    ("ab+c", ("ab", False)),
    ("ab*c", ("a", False)),
    ("ab?c", ("a", False)),
    ("ab??c", ("a", False)),
    ("a{2}b", ("aab", True)),
    ("a{2,3}b", ("aa", False)),
    ("a{,3}", ("a{,3}", True)),
    ("(?:ab){2}c", ("ababc", True)),
    ("(ab)+c", ("ab", False)),
    (r"\Qa.b\E*c", ("a.", False)),
    (r"\Qa.b", ("a.b", True)),
    (r"\Qa|b)\Ec", ("a|b)c", True)),
    ("abc|abd", ("ab", False)),
    ("a|b", ("", False)),
    ("a(|b)", ("a", False)),
    (r"\x41\x{42}\103", ("ABC", True)),
    ("(?i)ab", ("", False)),
    ("a(?i:b)c", ("a", False)),
    ("(?s)ab", ("ab", True)),
    ("a[[:alpha:]]b", ("a", False)),
    ("[]]a", ("]a", True)),
    ("[^]]a", ("", False)),
    (r"[\]]a", ("]a", True)),
    ("a[bc]", ("a", False)),
    (r"a\p{Greek}b", ("a", False)),
    (r"a\pLb", ("a", False)),
    ("ab$", ("ab", False)),
    ("^ab", ("", False)),
    (r"a\bb", ("a", False)),
    (r"a\nb", ("a\nb", True)),
    ("", ("", True)),
]


@pytest.mark.parametrize(("pattern", "expected"), PREFIXES, ids=[pattern for pattern, _ in PREFIXES])
def test_literal_prefix(pattern: str, expected: tuple[str, bool]) -> None:
    """Every match begins with the prefix. A complete prefix is itself a match."""
    compiled = compile_regexp(pattern)
    assert literal_prefix(pattern) == expected
    prefix, complete = expected
    if complete:
        assert compiled.fullmatch(prefix)


@pytest.mark.parametrize(
    "pattern", ["([{", "(?=x)", "a++", "?a", r"(a)\1", "a{1001}", "((a{100}){100}){100}", "a\ud800", "\\"]
)
def test_syntax_outside_re2_is_refused(pattern: str) -> None:
    """Look-around, back references, possessive quantifiers and huge repetitions are not part of the language."""
    with pytest.raises(BadRegexpError):
        compile_regexp(pattern)


@pytest.mark.parametrize("pattern", [r"\pN+" * 5000, "(?:a?){1000}" * 1500, "x" * (MAX_LENGTH + 1)])
def test_large_patterns_are_refused(pattern: str) -> None:
    """A short pattern with a huge program is refused, and so is a long pattern."""
    with pytest.raises(BadRegexpError, match=r"too large|at most"):
        compile_regexp(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*b", "(?:a?){500}a{500}b"])
def test_patterns_that_explode_with_backtracking_are_fast(pattern: str) -> None:
    """Exponential patterns for backtracking engines: here even a long text without a match is fast."""
    assert not compile_regexp(pattern).fullmatch("a" * 100_000)


def test_matches_are_anchored_as_requested() -> None:
    """``fullmatch`` is anchored at both ends, ``search`` at neither. Text that is not valid Unicode does not fail."""
    pattern = compile_regexp("a.b")
    assert pattern.fullmatch("a\u00e4b")
    assert not pattern.fullmatch("xaxb")
    assert pattern.search("xaxb")
    assert not pattern.fullmatch("\ud800b")


@pytest.mark.parametrize(
    "pattern", ["(" * 900 + "a" + ")" * 900, "(?:" * 300 + "a" + ")" * 300, "a{900}" * 50, "a" * MAX_LENGTH]
)
def test_the_prefix_of_a_hostile_pattern_is_bounded(pattern: str) -> None:
    """Depth and repetition cost neither stack nor memory."""
    compile_regexp(pattern)
    prefix, _ = literal_prefix(pattern)
    assert len(prefix) <= 1000


@pytest.mark.parametrize("pattern", ["(a)(b)", "((((.*))))" * 199])
def test_patterns_run_without_capture_groups(pattern: str) -> None:
    """With groups, the engine would repeat its work for each of them."""
    assert compile_regexp(pattern)._compiled.groups == 0
