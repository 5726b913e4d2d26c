"""Settings: read once, with all faults reported together, and all documented."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from luci_scheduler.core.commit_hosts import ConfiguredHost, HostKind
from luci_scheduler.core.era import Era
from luci_scheduler.settings import PREFIX, Settings, variable_of
from luci_scheduler.settings_reader import SettingsError, read_settings

GOOD = {
    "SCHEDULER_PROJECT": "p",
    "SCHEDULER_TASK_URL": "https://t",
    "SCHEDULER_TASK_ACCOUNT": "a@p",
    "SCHEDULER_TOKEN_SECRETS": "the new signing key\nthe old signing key\n",
    "SCHEDULER_BUILDBUCKET_SERVERS": (
        '[{"host": "h", "publisher": "x@y", "protocol": "v1"}, {"host": "i", "publisher": "z@y"}]'
    ),
    "PATH": "/bin",
}


def test_good_environment() -> None:
    """Values are parsed; foreign variables are ignored."""
    settings = read_settings(GOOD)
    assert settings.token_secrets == ("the new signing key", "the old signing key")
    assert [server.protocol for server in settings.buildbucket_servers] == [Era.V1, Era.V2]


def test_all_faults_are_reported_together() -> None:
    """One error lists missing, unknown and bad variables by name."""
    bad = {
        "SCHEDULER_PROJET": "p",
        "SCHEDULER_CONCURRENCY": "0",
        "SCHEDULER_LOCAL": "yes",
        "SCHEDULER_GITILES_URLS": "{",
    }
    with pytest.raises(SettingsError) as raised:
        read_settings(bad)
    for name in (
        "PROJET",
        "CONCURRENCY",
        "LOCAL",
        "GITILES_URLS",
        "PROJECT",
        "TASK_URL",
        "TASK_ACCOUNT",
        "TOKEN_SECRETS",
    ):
        assert f"{PREFIX}{name}:" in str(raised.value)


@pytest.mark.parametrize(
    ("deadline", "lease", "fault"),
    [
        ("60", "75", ""),
        ("2", "3", ""),
        (
            "75",
            "",
            "SCHEDULER_CLAIM_LEASE_SECONDS: 75 must be more than SCHEDULER_REQUEST_DEADLINE_SECONDS, which is 75",
        ),
        (
            "",
            "60",
            "SCHEDULER_CLAIM_LEASE_SECONDS: 60 must be more than SCHEDULER_REQUEST_DEADLINE_SECONDS, which is 60",
        ),
        ("120", "75", "raise the lease"),
    ],
)
def test_a_claim_outlives_the_request_that_it_covers(deadline: str, lease: str, fault: str) -> None:
    """A lease must be longer than the deadline, or two launches could call at once. Defaults count as well."""
    more = {"SCHEDULER_REQUEST_DEADLINE_SECONDS": deadline, "SCHEDULER_CLAIM_LEASE_SECONDS": lease}
    if not fault:
        read_settings({**GOOD, **more})
        return
    with pytest.raises(SettingsError, match=fault):
        read_settings({**GOOD, **more})


def test_keys_of_other_generations_verify() -> None:
    """The current key signs. Each of the others is one line, and none is in the text of the settings."""
    keys = {name: f"signing key {name}" for name in ("current", "next", "previous")}
    environment = {
        **GOOD,
        "SCHEDULER_TOKEN_SECRETS": keys["current"],
        "SCHEDULER_NEXT_TOKEN_SECRET": keys["next"] + "\n",
        "SCHEDULER_PREVIOUS_TOKEN_SECRET": keys["previous"],
    }
    settings = read_settings(environment)
    assert settings.verifying_secrets == tuple(keys.values())
    assert not any(key in repr(settings) for key in keys.values())
    assert read_settings(GOOD).verifying_secrets == read_settings(GOOD).token_secrets
    for value, fault in (("short", "at least 16 bytes"), ("a" * 16 + "\n" + "b" * 16, "holds one secret, got 2 lines")):
        with pytest.raises(SettingsError, match=f"SCHEDULER_NEXT_TOKEN_SECRET: .*{fault}"):
            read_settings({**environment, "SCHEDULER_NEXT_TOKEN_SECRET": value})


def test_a_server_without_notifications() -> None:
    """It is said by false itself, not by a text."""
    server = {"host": "h", "publisher": "p@example.com"}
    for members, expected in (({}, True), ({"notifications": True}, True), ({"notifications": False}, False)):
        environment = {**GOOD, "SCHEDULER_BUILDBUCKET_SERVERS": json.dumps([{**server, **members}])}
        assert [item.notifications for item in read_settings(environment).buildbucket_servers] == [expected]
    for value in ("false", 0, None):
        bad = {**GOOD, "SCHEDULER_BUILDBUCKET_SERVERS": json.dumps([{**server, "notifications": value}])}
        with pytest.raises(SettingsError, match="notifications of a server must be true or false"):
            read_settings(bad)


def test_secrets_are_in_no_message() -> None:
    """An error about a bad environment quotes names, never secrets."""
    with pytest.raises(SettingsError) as raised:
        read_settings({"SCHEDULER_TOKEN_SECRETS": "canary-secret-of-the-signer"})
    assert "canary-secret" not in str(raised.value)


def test_every_setting_is_documented() -> None:
    """The reference page lists each variable."""
    page = Path("docs/reference/settings.md").read_text(encoding="utf-8")
    for field in fields(Settings):
        assert f"`{variable_of(field)}`" in page


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"SCHEDULER_LOCAL": "true"}, ""),
        ({}, "where SCHEDULER_LOCAL is true"),
        ({"SCHEDULER_LOCAL": "false"}, "where SCHEDULER_LOCAL is true"),
        ({"SCHEDULER_LOCAL": "true", "K_SERVICE": "console"}, "K_SERVICE shows that this is Cloud Run"),
    ],
)
def test_the_developers_identity_cannot_be_switched_on_in_the_cloud(more: dict[str, str], fault: str) -> None:
    """Only the local cloud treats every caller as the developer."""
    environment = {**GOOD, "SCHEDULER_LOCAL_USER": "dev@localhost", **more}
    if not fault:
        assert read_settings(environment).local_user == "dev@localhost"
        return
    with pytest.raises(SettingsError, match=fault):
        read_settings(environment)
    environment.pop("SCHEDULER_LOCAL_USER")
    if "K_SERVICE" not in environment:
        assert read_settings(environment).local_user == ""


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"SCHEDULER_LOCAL": "true"}, ""),
        ({}, "LOCAL_SERVICE: is for the local cloud only, where SCHEDULER_LOCAL is true"),
        ({"SCHEDULER_LOCAL": "true", "K_SERVICE": "console"}, "LOCAL_SERVICE: .*K_SERVICE shows that this is Cloud"),
    ],
)
def test_the_name_of_a_local_service_cannot_replace_that_of_cloud_run(more: dict[str, str], fault: str) -> None:
    """The name is one of the conditions under which a token without a signature counts."""
    environment = {**GOOD, "SCHEDULER_LOCAL_SERVICE": "on-task", **more}
    if not fault:
        settings = read_settings(environment)
        assert settings.service == ""
        assert settings.service_path.endswith("/services/on-task")
        return
    with pytest.raises(SettingsError, match=fault):
        read_settings(environment)


def test_only_the_local_cloud_has_one_buildbucket_server_for_all_hosts() -> None:
    """In the cloud a config could otherwise name any host, which would get the service account's token."""
    servers = '[{"host": "*", "publisher": "x@y", "url": "http://127.0.0.1:1"}]'
    environment = {**GOOD, "SCHEDULER_BUILDBUCKET_SERVERS": servers}
    with pytest.raises(SettingsError, match=r'BUILDBUCKET_SERVERS: the host "\*" is for the local cloud only'):
        read_settings(environment)
    assert read_settings({**environment, "SCHEDULER_LOCAL": "true"}).buildbucket_servers[0].host == "*"


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_local_clouds_rules_cannot_be_switched_on_in_the_cloud(value: str) -> None:
    """The local rules omit tokens and let jobs fetch over plain HTTP."""
    environment = {**GOOD, "SCHEDULER_LOCAL": value, "K_SERVICE": "on-task"}
    if value == "false":
        assert not read_settings(environment).local
        return
    with pytest.raises(SettingsError, match="SCHEDULER_LOCAL: is for the local cloud only, and K_SERVICE"):
        read_settings(environment)


def test_the_service_is_the_one_that_cloud_run_names() -> None:
    """No variable of ours can pretend that this is Cloud Run."""
    settings = read_settings({**GOOD, "K_SERVICE": "console", "SCHEDULER_TRUST_FRONT_END": "true"})
    assert settings.service_path == "projects/p/locations/us-central1/services/console"
    assert settings.trust_front_end
    assert read_settings(GOOD).service == ""
    assert not read_settings(GOOD).trust_front_end
    with pytest.raises(SettingsError, match="SCHEDULER_SERVICE: no such setting"):
        read_settings({**GOOD, "SCHEDULER_SERVICE": "console"})


@pytest.mark.parametrize(
    ("secrets", "fault"),
    [
        ("x" * 16, ""),
        ("é" * 8, ""),
        ("x" * 15, "at least 16 bytes, or it can be guessed; too short is number 1: "),
        (f"{'x' * 48}\nshort\n{'y' * 48}\nz", "too short is number 2, 4: "),
    ],
)
def test_secrets_that_can_be_guessed_are_refused(secrets: str, fault: str) -> None:
    """The error names each short secret by its position, and quotes none."""
    environment = {**GOOD, "SCHEDULER_TOKEN_SECRETS": secrets}
    if not fault:
        assert read_settings(environment).token_secrets == (secrets,)
        return
    with pytest.raises(SettingsError) as raised:
        read_settings(environment)
    assert fault in str(raised.value)
    assert not any(secret in str(raised.value) for secret in ("xxx", "yyy", '"short"'))


@pytest.mark.parametrize(
    ("sources", "fault"),
    [
        ('[{"kind": "git"}]', "the kind of a source is one of folder, gitiles, github, bucket, not 'git'"),
        ('[{"path": "x"}]', "'kind'"),
        ('[{"kind": "folder"}]', "a source of kind folder lacks path"),
        ('[{"kind": "folder", "path": "x", "ref": "y"}]', "a source of kind folder has no ref"),
        ('[{"kind": "folder", "path": ""}]', "path of a source of kind folder must be a text and not empty"),
        ('[{"kind": "bucket", "project": "p", "bucket": "b", "object": 1}]', "object of a source of kind bucket"),
        ('[{"kind": "bucket", "project": "p/q", "bucket": "b", "object": "o"}]', "'p/q' is not a valid project name"),
        ('[{"kind": "gitiles", "project": "p", "repo": "https://example.com/x"}]', "only .googlesource.com repos"),
        (
            "[" + ", ".join(['{"kind": "bucket", "project": "p", "bucket": "b", "object": "o"}'] * 2) + "]",
            "more than one source holds the config of p",
        ),
        ("{}", None),
        ("[1]", "int"),
        ("nonsense", "Expecting value"),
    ],
)
def test_sources_of_configs_are_checked(sources: str, fault: str | None) -> None:
    """Missing, excess and misspelled members of a source are reported at startup."""
    environment = {**GOOD, "SCHEDULER_CONFIG_SOURCES": sources}
    if fault is None:
        assert read_settings(environment).config_sources == ()
        return
    with pytest.raises(SettingsError) as raised:
        read_settings(environment)
    assert "SCHEDULER_CONFIG_SOURCES: " in str(raised.value)
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "must be a JSON object"),
        ("nonsense", "Expecting value"),
        ('{"GitHub.com": {"kind": "github"}}', "'GitHub.com' is not a host's name in lower case"),
        ('{"x.googlesource.com": {"kind": "github"}}', "outside googlesource.com"),
        ('{"github.com:443": {"kind": "github"}}', "'github.com:443' is not a host's name"),
        ('{"git.example.com": {"kind": "gitlab"}}', 'git.example.com must be {"kind": "github"}'),
        ('{"git.example.com": 7}', 'git.example.com must be {"kind": "github"}'),
        ('{"git.example.com": {"kind": "github", "token": "x"}}', "git.example.com has no token"),
        ('{"git.example.com": {"kind": "github", "api": "http://git.example.com"}}', "must be an https URL"),
        ('{"git.example.com": {"kind": "github", "api": "https://user@git.example.com"}}', "must be an https URL"),
        ('{"git.example.com": {"kind": "github", "api": 7}}', "must be an https URL"),
    ],
)
def test_commit_hosts_are_checked(text: str, fault: str) -> None:
    """A token must go to no server that the operator did not mean."""
    with pytest.raises(SettingsError) as raised:
        read_settings({**GOOD, "SCHEDULER_COMMIT_HOSTS": text})
    assert "SCHEDULER_COMMIT_HOSTS: " in str(raised.value)
    assert fault in str(raised.value)


def test_commit_hosts() -> None:
    """The base URL follows from the name. The only host has the credentials, as GitHub has by default."""
    (github,) = read_settings(GOOD).commit_hosts.configured.items()
    assert github == ("github.com", ConfiguredHost(HostKind.GITHUB, "https://api.github.com", credentials=True))
    hosts = {
        "github.com": {"kind": "github"},
        "git.example.com": {"kind": "github", "credentials": True},
        "local.example.com": {"kind": "github", "api": "http://127.0.0.1:7000/"},
    }
    read = read_settings({**GOOD, "SCHEDULER_COMMIT_HOSTS": json.dumps(hosts)}).commit_hosts.configured
    assert {name: (host.api, host.credentials) for name, host in read.items()} == {
        "github.com": ("https://api.github.com", False),
        "git.example.com": ("https://git.example.com/api/v3", True),
        "local.example.com": ("http://127.0.0.1:7000", False),
    }
    only = {"git.example.com": {"kind": "github"}}
    read = read_settings({**GOOD, "SCHEDULER_COMMIT_HOSTS": json.dumps(only)}).commit_hosts.configured
    assert read["git.example.com"].credentials
    assert read_settings({**GOOD, "SCHEDULER_COMMIT_HOSTS": "{}"}).commit_hosts.configured == {}


_TWO = '{"github.com": {"kind": "github"}, "git.example.com": {"kind": "github"}}'


def test_credentials_for_github_may_end_with_a_line_break() -> None:
    """As a secret does that a person wrote with ``echo``. No header can carry it."""
    app = {"GITHUB_APP_ID": "1\n", "GITHUB_INSTALLATION_ID": "2\r\n", "GITHUB_PRIVATE_KEY": "k\n"}
    read = read_settings({**GOOD, **{f"{PREFIX}{name}": value for name, value in app.items()}})
    assert (read.github_app_id, read.github_installation_id, read.github_private_key) == ("1", "2", "k")
    assert read_settings({**GOOD, f"{PREFIX}GITHUB_TOKEN": "t\n"}).github_token == "t"


@pytest.mark.parametrize(
    ("environment", "faults"),
    [
        ({"GITHUB_TOKEN": "t"}, []),
        ({"GITHUB_APP_ID": "1", "GITHUB_INSTALLATION_ID": "2", "GITHUB_PRIVATE_KEY": "k"}, []),
        ({"GITHUB_TOKEN": " \n"}, ["GITHUB_TOKEN: has only blanks"]),
        ({"GITHUB_APP_ID": "1"}, ["GITHUB_INSTALLATION_ID: is required", "GITHUB_PRIVATE_KEY: is required"]),
        (
            {"GITHUB_APP_ID": "1", "GITHUB_INSTALLATION_ID": "2", "GITHUB_PRIVATE_KEY": "k", "GITHUB_TOKEN": "t"},
            ["GITHUB_TOKEN: is not used beside a GitHub App"],
        ),
        ({"COMMIT_HOSTS": _TWO}, []),
        ({"COMMIT_HOSTS": _TWO, "GITHUB_TOKEN": "t"}, ['COMMIT_HOSTS: give one host "credentials": true']),
        ({"COMMIT_HOSTS": "{}", "GITHUB_TOKEN": "t"}, ['COMMIT_HOSTS: give one host "credentials": true']),
        (
            {"CONFIG_SOURCES": '[{"kind": "github", "project": "p", "repo": "https://x.googlesource.com/a"}]'},
            ["CONFIG_SOURCES: https://x.googlesource.com/a is a repository of the kind gitiles, not github"],
        ),
        (
            {"CONFIG_SOURCES": '[{"kind": "gitiles", "project": "p", "repo": "https://github.com/a/b"}]'},
            ["CONFIG_SOURCES: https://github.com/a/b is a repository of the kind github, not gitiles"],
        ),
        ({"CONFIG_SOURCES": '[{"kind": "github", "project": "p", "repo": "https://github.com/a/b"}]'}, []),
    ],
)
def test_credentials_for_github_are_checked(environment: dict[str, str], faults: list[str]) -> None:
    """The faults name the settings, and no secret is in a message or a ``repr``."""
    named = {f"{PREFIX}{name}": value for name, value in environment.items()}
    if not faults:
        shown = repr(read_settings({**GOOD, **named}))
        assert "github_token" not in shown
        assert "github_private_key" not in shown
        return
    with pytest.raises(SettingsError) as raised:
        read_settings({**GOOD, **named})
    for fault in faults:
        assert f"{PREFIX}{fault}" in str(raised.value)


def test_sources_of_configs() -> None:
    """The branch and the path have defaults."""
    text = '[{"kind": "gitiles", "project": "p", "repo": "https://a.googlesource.com/b"}]'
    (source,) = read_settings({**GOOD, "SCHEDULER_CONFIG_SOURCES": text}).config_sources
    assert (source.ref, source.path) == ("refs/heads/main", "luci-scheduler.cfg")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("TOKEN_SECRETS", " \n\t\n", "SCHEDULER_TOKEN_SECRETS: has only blank lines"),
        ("GITILES_URLS", '["https://x"]', "SCHEDULER_GITILES_URLS: must be a JSON object of texts"),
        ("GITILES_URLS", '{"h": 1}', "SCHEDULER_GITILES_URLS: must be a JSON object of texts"),
        ("GITILES_URLS", '{"*": "http://127.0.0.1/"}', 'GITILES_URLS: the host "[*]" is for the local cloud only'),
        ("LINKS", "[]", "SCHEDULER_LINKS: must be a JSON object of texts"),
        ("LINKS", '{"https://x/": 1}', "SCHEDULER_LINKS: must be a JSON object of texts"),
        ("LINKS", '{"https://x/": "http://y/"}', "SCHEDULER_LINKS: 'http://y/' must be an https address"),
        ("BUILDBUCKET_SERVERS", '[{"host": 1, "publisher": "a@b"}]', "host of a server must be a text, not 1"),
        ("CHECK_INTERVAL_SECONDS", "-1", "must not be negative"),
    ],
)
def test_values_of_another_kind_are_refused(name: str, text: str, fault: str) -> None:
    """They are refused at startup, not with the first build."""
    with pytest.raises(SettingsError, match=fault):
        read_settings({**GOOD, PREFIX + name: text})


def test_links_and_every_host_of_a_local_cloud() -> None:
    """Links may also lead to https addresses in an installation."""
    every = {f"{PREFIX}GITILES_URLS": '{"*": "http://127.0.0.1/h"}', f"{PREFIX}LOCAL": "true"}
    assert read_settings({**GOOD, **every}).gitiles_urls == {"*": "http://127.0.0.1/h"}
    links = read_settings({**GOOD, f"{PREFIX}LINKS": '{"https://x/": "https://y/"}'}).links
    assert links == {"https://x/": "https://y/"}
    assert read_settings(GOOD).links is None


def test_no_check_interval_is_the_eras_default() -> None:
    """The reference page says so."""
    assert read_settings({**GOOD, f"{PREFIX}CHECK_INTERVAL_SECONDS": "0"}).check_interval_seconds == 0


def test_secrets_are_in_no_representation() -> None:
    """A traceback may show the settings."""
    settings = read_settings({**GOOD, f"{PREFIX}TOKEN_SECRETS": "canary-secret-of-the-signer"})
    assert settings.token_secrets == ("canary-secret-of-the-signer",)
    assert "canary-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("RUN_SECONDS", "181", "must be at most 180, the limit of Cloud Build itself, got 181"),
        ("RUN_SECONDS", "0", "must be positive"),
        ("PROJECTS", '["p"]', "must be a JSON object of lists of texts"),
        ("PROJECTS", '{"p": "a@b"}', "must be a JSON object of lists of texts"),
        ("PROJECTS", '{"p": [5]}', "must be a JSON object of lists of texts"),
        ("CHECK_INTERVAL_SECONDS", "-1", "must not be negative"),
    ],
)
def test_bad_settings_of_cloud_build_are_refused(name: str, text: str, fault: str) -> None:
    """The error names the variable and the rule."""
    with pytest.raises(SettingsError, match=f"SCHEDULER_CLOUD_BUILD_{name}: .*{fault}"):
        read_settings({**GOOD, f"SCHEDULER_CLOUD_BUILD_{name}": text})


def test_settings_of_cloud_build_are_read() -> None:
    """Projects with their accounts are a JSON object."""
    settings = read_settings(
        {**GOOD, "SCHEDULER_CLOUD_BUILD": "true", "SCHEDULER_CLOUD_BUILD_PROJECTS": '{"p": ["a@b"], "q": []}'}
    )
    assert settings.cloud_build
    assert settings.cloud_build_projects == {"p": ("a@b",), "q": ()}
