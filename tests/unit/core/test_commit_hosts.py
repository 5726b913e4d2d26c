"""Commit hosts: how each kind writes the URLs of repositories, commits, refs and ranges."""

import pytest

from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS, CommitHosts, ConfiguredHost, HostKind, https_form
from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl

OWN = CommitHosts({"git.example.com": ConfiguredHost(HostKind.GITHUB, "https://git.example.com/api/v3")})
WIDGET = RepoUrl("github.com", "example-org/widget")


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/example-org/widget",
        "https://github.com/Example-Org/Widget",
        "https://github.com/example-org/widget.git",
        "https://github.com/example-org/widget/",
        "https://github.com/example-org/widget.git/",
        "https://GitHub.com/example-org/widget",
    ],
)
def test_all_spellings_of_a_repository_on_github_are_equal(text: str) -> None:
    """Case, ``.git`` and a final slash do not matter. The result reads back as itself."""
    assert DEFAULT_HOSTS.parse(text) == WIDGET
    assert DEFAULT_HOSTS.parse(str(WIDGET)) == RepoUrl.read_back(str(WIDGET)) == WIDGET


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com",
        "https://github.com/",
        "https://github.com/widget",
        "https://github.com/a/b/c",
        "https://github.com/a//b",
        "https://github.com//a/b/c",
        "https://github.com/../b",
        "https://github.com/a/..",
        "https://github.com/a/.git",
        "https://github.com/a/b.git.git",
        "https://github.com/a/b.GIT",
        "https://github.com/a/\u212a",  # in lower case it is a k
        "https://github.com/a/b%2Fc",
        "https://github.com/a/b?x=1",
        "https://github.com/a/b?",
        "https://github.com/a/b#x",
        "https://github.com/a/b#",
        "https://github.com/a/ü",
        "https://github.com/a/b c",
        "https://github.com/a/b\n",
        "http://github.com/a/b",
    ],
)
def test_other_urls_on_github_are_refused(text: str) -> None:
    """A path of the API is made of owner and name, so no text may leave them. The problem is also that of a config."""
    with pytest.raises(BadRepoUrlError) as raised:
        DEFAULT_HOSTS.parse(text)
    assert DEFAULT_HOSTS.problem(text) == str(raised.value)
    assert "googlesource" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://gitlab.com/a/b",
        "https://github.com:443/a/b",
        "https://user@github.com/a/b",
        "https://github.com.evil.example/a/b",
        "https://www.github.com/a/b",
    ],
)
def test_a_host_is_known_by_its_exact_name(text: str) -> None:
    """Any addition could name another server. The error is that of Gitiles, as for every other URL."""
    with pytest.raises(BadRepoUrlError, match=r"only \.googlesource\.com repos are supported"):
        DEFAULT_HOSTS.parse(text)
    assert not DEFAULT_HOSTS.knows(text)
    assert DEFAULT_HOSTS.problem(text) == ""


def test_gitiles_needs_no_setting() -> None:
    """Its URLs have the rule of Gitiles, where case counts and a project has any number of parts."""
    assert OWN.parse("https://x.googlesource.com/a/B/c.git") == RepoUrl("x.googlesource.com", "B/c")
    assert OWN.knows("https://x.googlesource.com/B")
    assert OWN.problem("https://x.googlesource.com/?") == ""
    assert OWN.kind(RepoUrl("x.googlesource.com", "B")) is HostKind.GITILES


def test_the_settings_name_the_hosts() -> None:
    """Without GitHub among them, its repositories are unknown."""
    assert OWN.parse("https://git.example.com/Team/App") == RepoUrl("git.example.com", "team/app")
    assert OWN.kind(OWN.parse("https://git.example.com/Team/App")) is HostKind.GITHUB
    assert not OWN.knows("https://github.com/a/b")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("git@github.com:Example-Org/widget.git", "https://github.com/Example-Org/widget"),
        ("ssh://git@github.com/example-org/widget.git", "https://github.com/example-org/widget"),
        ("ssh://git@github.com:22/example-org/widget", "https://github.com/example-org/widget"),
        ("ssh://github.com/example-org/widget/", "https://github.com/example-org/widget"),
        ("https://github.com/a/b", ""),
        ("https://user@github.com/a/b", ""),
        ("file:///a@b/c", ""),
        ("a/b", ""),
        ("", ""),
    ],
)
def test_the_https_form_of_an_ssh_address(text: str, form: str) -> None:
    """An address for SSH is refused, and the error shows what to write."""
    assert https_form(text) == form
    if form:
        with pytest.raises(BadRepoUrlError) as raised:
            DEFAULT_HOSTS.parse(text)
        assert str(raised.value) == f"only https scheme is supported: write {form}"


@pytest.mark.parametrize(
    "repo", ["https://github.com/Org/App", "https://github.com/Org/App.git", "https://github.com/Org/App/"]
)
def test_links_to_github(repo: str) -> None:
    """The links keep the spelling of the config, without its ending."""
    page = "https://github.com/Org/App"
    assert DEFAULT_HOSTS.commit_link(repo, "abc") == f"{page}/commit/abc"
    assert DEFAULT_HOSTS.ref_link(repo, "refs/heads/release/1 #2") == f"{page}/tree/release/1%20%232"
    assert DEFAULT_HOSTS.ref_link(repo, "refs/tags/v1") == f"{page}/tree/v1"
    assert DEFAULT_HOSTS.range_link(repo, "a", "b") == f"{page}/compare/a...b"


@pytest.mark.parametrize("repo", ["https://x.googlesource.com/app", "https://unknown.example/app"])
def test_links_to_gitiles_and_to_unknown_hosts(repo: str) -> None:
    """A link to a commit is the original's."""
    assert DEFAULT_HOSTS.commit_link(repo, "abc") == f"{repo}/+/abc"
    assert DEFAULT_HOSTS.ref_link(f"{repo}/", "refs/heads/main") == f"{repo}/+/refs/heads/main"
    assert DEFAULT_HOSTS.range_link(repo, "a", "b") == f"{repo}/+log/a..b"
