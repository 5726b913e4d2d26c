"""Repository URLs: one repository has one name, and no text leads to another server."""

import pytest

from luci_scheduler.core.repo_url import BadRepoUrlError, RepoUrl, parse_repo_url


@pytest.mark.parametrize(
    "text",
    [
        "https://dawn.googlesource.com/tint",
        "https://dawn.googlesource.com/tint/",
        "https://dawn.googlesource.com/tint.git",
        "https://dawn.googlesource.com/tint.git/",
        "https://dawn.googlesource.com/a/tint",
        "https://dawn.googlesource.com/a/tint.git",
    ],
)
def test_all_spellings_of_a_repository_are_equal(text: str) -> None:
    """The prefix of authenticated access and the endings do not matter. The result reads back as itself."""
    url = parse_repo_url(text)
    assert url == RepoUrl("dawn.googlesource.com", "tint")
    assert parse_repo_url(str(url)) == url


def test_a_project_may_have_the_name_a() -> None:
    """Only a leading ``/a/`` before a name is the prefix."""
    assert parse_repo_url("https://x.googlesource.com/a").project == "a"
    assert parse_repo_url("https://x.googlesource.com/abc/a/b").project == "abc/a/b"


@pytest.mark.parametrize(
    "text",
    [
        "https://user@x.googlesource.com/p",
        "https://evil.example:443@x.googlesource.com/p",
        "https://evil.example\\@x.googlesource.com/p",
        "https://x.googlesource.com:443/p",
        "https://x.googlesource.com.evil.example/p",
        "https://.googlesource.com/p",
        "https://xgooglesource.com/p",
        "https://evil.example/.googlesource.com/p",
        "https:///p",
    ],
)
def test_only_plain_names_of_gitiles_hosts_are_hosts(text: str) -> None:
    """Only the host's name is accepted: any addition could name another server."""
    with pytest.raises(BadRepoUrlError, match=r"only \.googlesource\.com repos are supported"):
        parse_repo_url(text)


@pytest.mark.parametrize(
    "text",
    ["https://x.googlesource.com/p\nq", "https://x.goo\tglesource.com/p", " https://x.googlesource.com/p", "\x00"],
)
def test_control_characters_are_refused_not_dropped(text: str) -> None:
    """A URL is never changed silently."""
    with pytest.raises(BadRepoUrlError, match="not a URL: invalid character"):
        parse_repo_url(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "only https scheme is supported"),
        ("https://x.googlesource.com/p%2Bq", "must not contain +"),
        ("https://x.googlesource.com/p?", "must not have query"),
        ("https://x.googlesource.com/a/", "must be not just a slash"),
        ("https://x.googlesource.com//", "must be not just a slash"),
        ("https://x.googlesource.com/.git", "must be not just a slash"),
        ("https://[x.googlesource.com/p", "not a URL"),
    ],
)
def test_a_url_without_a_repository_is_refused(text: str, reason: str) -> None:
    """The reason names the fault."""
    with pytest.raises(BadRepoUrlError) as raised:
        parse_repo_url(text)
    assert reason in str(raised.value)
