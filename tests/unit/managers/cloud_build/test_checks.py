"""The rules of ``cloud_build`` blocks in a config, each with the place and the text of its error."""

from __future__ import annotations

import pytest

from luci_scheduler.config.reader import read_config
from luci_scheduler.config.validator import validate
from luci_scheduler.core.errors import PermanentError
from luci_scheduler.managers.cloud_build.permission import check_permitted
from luci_scheduler.managers.environment import CloudBuildDefaults

LINK = "projects/p/locations/us-central1/connections/gh/repositories/widget"
FULL = f"""
project: "example.com:other-project"
location: "us-central1"
steps {{
  name: "python:3.12" id: "test" script: "#!/bin/sh\\nmake\\n" env: "A=b=c" dir: "py/lib" timeout_sec: 900
  secret_env: "KEY" allow_failure: true
}}
steps {{ name: "bash" entrypoint: "bash" args: ["-c", "echo $$_BRANCH"] wait_for: ["test", "-"] }}
source {{ connected_repository: "{LINK}" dir: "server" revision: "refs/heads/main" }}
substitutions: "_URL:https://example.com:8443/x"
tags: "nightly"
service_account: "projects/other-project/serviceAccounts/b@other-project.iam.gserviceaccount.com"
timeout_sec: 1800
queue_ttl_sec: 600
pool: "projects/p/locations/us-central1/workerPools/big"
logs_bucket: "gs://logs"
images: "us-docker.pkg.dev/p/r/app:$SHORT_SHA"
env: "BUCKET=b"
secrets {{ env: "KEY" version: "projects/p/secrets/key/versions/latest" }}
"""


def _config(block: str) -> str:
    """Return a config with one block, whose first line is line 3."""
    return f'job {{ id: "j"\n cloud_build {{\n{block}\n}} }}'


def _errors(block: str) -> list[str]:
    return [str(problem) for problem in validate(_config(block), file="F").errors]


def test_a_block_with_all_fields_is_valid() -> None:
    """The job keeps nested messages as objects, without the fields that are not set."""
    config = read_config("proj", _config(FULL))
    task = config.jobs["proj/j"].task  # type: ignore[index]
    assert config.warnings == ()
    assert task.kind == "cloud_build"
    assert task.fields["steps"][1] == {
        "name": "bash",
        "args": ["-c", "echo $$_BRANCH"],
        "entrypoint": "bash",
        "wait_for": ["test", "-"],
    }
    assert task.fields["source"] == {"connected_repository": LINK, "dir": "server", "revision": "refs/heads/main"}
    assert task.fields["secrets"] == [{"env": "KEY", "version": "projects/p/secrets/key/versions/latest"}]
    assert "trigger" not in task.fields


def test_a_trigger_needs_no_more() -> None:
    """Its own config has the rest; substitutions and a revision may be added."""
    assert _errors('trigger: "widget-ci"') == []
    assert (
        _errors('trigger: "0d2c6a0e-6f0b-4f3c-9a51-3c6f0f7a2b11" substitutions: "_A:b" source { revision: "x" }') == []
    )


def test_a_trigger_block_has_no_such_task() -> None:
    """The kind makes builds, and polls nothing."""
    (error,) = validate('trigger { id: "t"\n cloud_build { trigger: "x" } }', file="F").errors
    assert str(error) == 'F:2: Message type "Trigger" has no field named "cloud_build".'


STEP = 'steps { name: "bash" }'
CASES = {
    "neither": ("", ":2: {}one of 'trigger' and 'steps' is required"),
    "both": (f'trigger: "t"\n{STEP}', ":3: {}'trigger' and 'steps' exclude each other"),
    "tags of a trigger": (
        'trigger: "t"\ntags: "x"',
        ":4: {}field 'tags' is the trigger's own to set, it cannot be given with 'trigger'",
    ),
    "timeout of a trigger": (
        'trigger: "t"\ntimeout_sec: 5',
        ":4: {}field 'timeout_sec' is the trigger's own to set, it cannot be given with 'trigger'",
    ),
    "source of a trigger": (
        'trigger: "t"\nsource {\n repo: "https://x/y"\n}',
        ":5: {}source: field 'repo' is the trigger's own to set, it cannot be given with 'trigger'",
    ),
    "project": (f'{STEP}\nproject: "Widget"', ":4: {}'project' is not a project ID: \"Widget\""),
    "location": (f'{STEP}\nlocation: "Europe"', ":4: {}'location' is neither global nor a region: \"Europe\""),
    "trigger": ('trigger: "a b"', ":3: {}'trigger' is neither a trigger's ID nor a name: \"a b\""),
    "many steps": ("steps {}\n" * 301, ":303: {}301 'steps' are given, at most 300 are allowed"),
    "step without a name": (
        f'{STEP}\nsteps {{\n script: "x"\n}}',
        ":4: {}steps #2: field 'name' is required",
    ),
    "script and args": (
        'steps {\n name: "b"\n args: "a"\n script: "x"\n}',
        ":6: {}steps #1: 'script' excludes 'args' and 'entrypoint'",
    ),
    "script and entrypoint": (
        'steps { name: "b" entrypoint: "a" script: "x" }',
        ":3: {}steps #1: 'script' excludes 'args' and 'entrypoint'",
    ),
    "long arg": (
        f'steps {{\n name: "b"\n args: ["a",\n "{"x" * 10_001}"]\n}}',
        ":6: {}steps #1: arg 2 has 10001 characters, at most 10000 are allowed",
    ),
    "many args": (
        'steps { name: "b" ' + "args: 'a' " * 101 + "}",
        ":3: {}steps #1: 101 'args' are given, at most 100 are allowed",
    ),
    "many variables": (f"{STEP}\n" + 'env: "A=b" ' * 101, ":4: {}101 'env' are given, at most 100 are allowed"),
    "ID twice": (
        'steps { name: "b" id: "x" }\nsteps { name: "b" id: "x" }',
        ':4: {}steps #2: step ID "x" is not unique',
    ),
    "later step": (
        'steps { name: "b" wait_for: "x" }\nsteps { name: "b" id: "x" }',
        ':3: {}steps #1: waits for "x", which no earlier step has',
    ),
    "variable": (f'{STEP}\nenv: "A"', ':4: {}not a KEY=value pair: "A"'),
    "variable of a step": ('steps { name: "b" env: "=x" }', ':3: {}steps #1: not a KEY=value pair: "=x"'),
    "absolute folder": (
        'steps { name: "b" dir: "/etc" }',
        ":3: {}steps #1: 'dir' must be a relative path within the source: \"/etc\"",
    ),
    "folder outside": (
        f'{STEP}\nsource {{ dir: "a/../.." }}',
        ":4: {}source: 'dir' must be a relative path within the source: \"a/../..\"",
    ),
    "secret not given": ('steps { name: "b" secret_env: "K" }', ':3: {}steps #1: no secret is given for "K"'),
    "secret not used": (
        f'{STEP}\nsecrets {{ env: "K" version: "projects/p/secrets/k/versions/1" }}',
        ':4: {}secrets #1: secret "K" is used by no step',
    ),
    "secret without a name": (
        f'{STEP}\nsecrets {{ version: "projects/p/secrets/k/versions/1" }}',
        ":4: {}secrets #1: field 'env' is required",
    ),
    "version": (
        'steps { name: "b" secret_env: "K" }\nsecrets { env: "K" version: "k" }',
        ":4: {}secrets #1: 'version' is not a secret's version: \"k\"",
    ),
    "two sources": (
        f'{STEP}\nsource {{ repo: "https://x/y"\n none: true }}',
        ":5: {}source: only one of 'repo', 'connected_repository', 'git_repository_link' and 'none' may be set",
    ),
    "scheme": (f'{STEP}\nsource {{ repo: "http://x/y" }}', ":4: {}source: only https scheme is supported"),
    "ssh": (
        f'{STEP}\nsource {{ repo: "git@github.com:a/b.git" }}',
        ":4: {}source: only https scheme is supported: write https://github.com/a/b",
    ),
    "no repository": (
        f'{STEP}\nsource {{ repo: "https://github.com/a" }}',
        ":4: {}source: a repository's URL on this host is https://github.com/OWNER/NAME",
    ),
    "user": (f'{STEP}\nsource {{ repo: "https://u:p@x/y" }}', ":4: {}source: repo URL must not have a user"),
    "query": (f'{STEP}\nsource {{ repo: "https://x/y?z" }}', ":4: {}source: repo URL must not have query"),
    "fragment": (f'{STEP}\nsource {{ repo: "https://x/y#z" }}', ":4: {}source: repo URL must not have fragment"),
    "no path": (f'{STEP}\nsource {{ repo: "https://x/" }}', ":4: {}source: repo URL path must be not just a slash"),
    "no host": (f'{STEP}\nsource {{ repo: "https:///y" }}', ":4: {}source: repo URL must have a host"),
    "blank": (f'{STEP}\nsource {{ repo: "https://x/ y" }}', ":4: {}source: not a URL: invalid character"),
    "bad host": (f'{STEP}\nsource {{ repo: "https://[x/y" }}', ":4: {}source: not a URL: Invalid IPv6 URL"),
    "link": (
        f'{STEP}\nsource {{ connected_repository: "x" }}',
        ":4: {}source: 'connected_repository' must be projects/*/locations/*/connections/*/repositories/*",
    ),
    "link of another kind": (
        f'{STEP}\nsource {{ git_repository_link: "{LINK}" }}',
        ":4: {}source: 'git_repository_link' must be projects/*/locations/*/connections/*/gitRepositoryLinks/*",
    ),
    "global build": (
        f'{STEP}\nlocation: "global"\nsource {{ connected_repository: "{LINK}" }}',
        ":5: {}source: a connected repository needs a region, not global",
    ),
    "another region": (
        f'{STEP}\nlocation: "europe-west1"\nsource {{ connected_repository: "{LINK}" }}',
        ':5: {}source: the repository is in "us-central1", the build in "europe-west1"',
    ),
    "substitution": (f'{STEP}\nsubstitutions: "_A"', ":4: {}bad substitution, not a '_KEY:value' pair: \"_A\""),
    "key": (f'{STEP}\nsubstitutions: "a:b"', ':4: {}substitution key "a" must match _[A-Z0-9_]+'),
    "long key": (
        f'{STEP}\nsubstitutions: "_{"A" * 100}:b"',
        f':4: {{}}substitution key "_{"A" * 100}" has 101 bytes, at most 100 are allowed',
    ),
    "long value": (
        f'{STEP}\nsubstitutions: "_A:{"b" * 4001}"',
        ':4: {}substitution "_A" has 4001 bytes, at most 4000 are allowed',
    ),
    "key twice": (f'{STEP}\nsubstitutions: ["_A:b",\n"_A:c"]', ':5: {}substitution "_A" is given twice'),
    "reserved key": (f'{STEP}\nsubstitutions: "_SCHEDULER_JOB:x"', ':4: {}substitution "_SCHEDULER_JOB" is reserved'),
    "tag": (f'{STEP}\ntags: "ci/main"', ':4: {}tag "ci/main" must match [A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}'),
    "reserved tag": (f'{STEP}\ntags: "scheduler-x"', ':4: {}tag "scheduler-x" is reserved'),
    "reserved tag of a commit": (f'{STEP}\ntags: "commit-x"', ':4: {}tag "commit-x" is reserved'),
    "many tags": (f"{STEP}\n" + 'tags: "a" ' * 61, ":4: {}61 'tags' are given, at most 60 are allowed"),
    "account": (
        f'{STEP}\nservice_account: "a@example.com"',
        ":4: {}'service_account' is not a service account: \"a@example.com\"",
    ),
    "long timeout": (f"{STEP}\ntimeout_sec: 86401", ":4: {}maximum allowed 'timeout_sec' is 86400 sec, got 86401"),
    "negative wait": (f"{STEP}\nqueue_ttl_sec: -1", ":4: {}minimum allowed 'queue_ttl_sec' is 1 sec, got -1"),
    "timeout of a step": (
        'steps { name: "b" timeout_sec: 3601 }',
        ":3: {}steps #1: a step's 'timeout_sec' is above the build's",
    ),
    "machine": (f'{STEP}\nmachine_type: "BIG"', ":4: {}unknown 'machine_type': \"BIG\""),
    "pool": (f'{STEP}\npool: "big"', ":4: {}'pool' must be projects/*/locations/*/workerPools/*"),
    "pool and machine": (
        f'{STEP}\npool: "projects/p/locations/l/workerPools/w"\nmachine_type: "E2_MEDIUM"',
        ":5: {}a pool has machines of its own: 'machine_type' does not go with 'pool'",
    ),
    "bucket": (f'{STEP}\nlogs_bucket: "logs"', ":4: {}'logs_bucket' must begin with gs://"),
}


@pytest.mark.parametrize(("block", "expected"), CASES.values(), ids=CASES)
def test_a_broken_rule_has_its_place(block: str, expected: str) -> None:
    """The line is that of the field, and the path names the nested message."""
    place, _, text = expected.replace("{{", "{").replace("}}", "}").partition("{}")
    nested, colon, rest = (
        text.partition(": ") if text.startswith(("steps #", "source: ", "secrets #")) else ("", "", text)
    )
    path = f'job "j" / task / {nested}' if colon else 'job "j" / task'
    assert _errors(block) == [f"F{place}{path}: {rest}"]


@pytest.mark.parametrize(
    ("step", "warned"),
    [
        ('name: "bash" args: ["-c", "git push origin $_BRANCH"]', True),
        ('name: "ubuntu" entrypoint: "/bin/sh" args: ["-c", "echo ${BRANCH_NAME}"]', True),
        ('name: "docker.io/library/bash:5@sha256:abc" args: ["-c", "echo $TAG_NAME"]', True),
        ('name: "bash" args: ["-c", "echo $$_BRANCH"]', False),
        ('name: "bash" args: ["-c", "echo $_BRANCHES"]', False),
        ('name: "gcr.io/cloud-builders/docker" args: ["build", "-t", "app:$BRANCH_NAME"]', False),
        ('name: "bash" script: "echo $_BRANCH"', False),
    ],
)
def test_a_ref_in_a_shell_command_is_a_warning(step: str, warned: bool) -> None:
    """The author of a ref chooses its name, which may hold ``$(...)``."""
    warnings = [str(problem) for problem in validate(_config(f"steps {{ {step} }}"), file="F").warnings]
    text = "the name of a ref goes into a shell command; use 'script' and the variable of that name"
    assert warnings == ([f'F:3: warning: job "j" / task / steps #1: {text}'] if warned else [])


DEFAULTS = CloudBuildDefaults(
    "home", account="b@home.iam.gserviceaccount.com", projects={"other": ("c@other.iam.gserviceaccount.com",)}
)


@pytest.mark.parametrize(
    ("task", "refusal"),
    [
        ({}, ""),
        ({"project": "home"}, ""),
        ({"service_account": "b@home.iam.gserviceaccount.com"}, ""),
        ({"service_account": "projects/home/serviceAccounts/b@home.iam.gserviceaccount.com"}, ""),
        ({"project": "other", "service_account": "c@other.iam.gserviceaccount.com"}, ""),
        ({"project": "other"}, ""),
        ({"project": "third"}, 'project "third" may not be built in by this installation'),
        (
            {"service_account": "c@other.iam.gserviceaccount.com"},
            'service account "c@other.iam.gserviceaccount.com" may not be used by this installation',
        ),
        (
            {"project": "other", "service_account": "b@home.iam.gserviceaccount.com"},
            'service account "b@home.iam.gserviceaccount.com" may not be used by this installation',
        ),
    ],
)
def test_an_installation_bounds_projects_and_accounts(task: dict[str, str], refusal: str) -> None:
    """The author of a config cannot choose another identity for a build."""
    if not refusal:
        check_permitted(task, DEFAULTS)
        return
    with pytest.raises(PermanentError) as raised:
        check_permitted(task, DEFAULTS)
    assert str(raised.value) == f"{refusal}: add it to SCHEDULER_CLOUD_BUILD_PROJECTS"
