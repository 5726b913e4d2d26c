"""Configurations that the tests apply: the examples, and the root module with every option."""

from dataclasses import fields
from typing import Any

from luci_scheduler.core.era import Era
from luci_scheduler.settings import Settings

PROJECT = "a-project-with-a-name-of-30-ch"  # the longest that there is
SERVERS = [{"host": "cr-buildbucket.appspot.com", "publisher": "cr-buildbucket@appspot.gserviceaccount.com"}]
LONG_PUBLISHER = "b" * (200 - len("@appspot.gserviceaccount.com")) + "@appspot.gserviceaccount.com"

BUILDS = "builds-of-strangers"
"""A second project, in which builds run."""

MINIMAL = {
    "project_id": PROJECT,
    "config": {"project": "demo", "repo": "https://demo.googlesource.com/demo"},
    "you": "user:me@example.com",
}
PRODUCTION = {
    "project_id": PROJECT,
    "configs": {"demo": "https://demo.googlesource.com/demo"},
    "billing_account": "012345-6789AB-CDEF01",
    "team": "builders@example.com",
    "admins": ["user:me@example.com"],
    "oncall": "oncall@example.com",
}
GITHUB = {"project_id": PROJECT, "repo": "https://github.com/example-org/widget", "you": "user:me@example.com"}
_OTHER_KINDS = frozenset(
    {"local", "github_statuses", "cloud_build", "cloud_build_check_interval_seconds", "cloud_build_run_seconds"}
)
"""Settings that are numbers or switches, and that the variable ``tuning`` does not have."""


def _tuning() -> dict[str, Any]:
    """Return a value other than the default for each setting that is a number, a switch or an era."""
    defaults = {field.name: field.default for field in fields(Settings) if field.name not in _OTHER_KINDS}
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        match default:
            case bool():
                values[name] = not default
            case int():
                values[name] = default + 1
            case Era():
                values[name] = Era.V1.value
    return values


TUNING = {**_tuning(), "commit_wait_seconds": 0}  # zero is a value, not the absence of one
"""Every member of the variable ``tuning``."""

EVERYTHING: dict[str, Any] = {
    "project_id": PROJECT,
    "prefix": "staging-eu",  # the longest valid prefix
    "buildbucket_servers": [*SERVERS, {"host": "old.example.com", "publisher": LONG_PUBLISHER, "protocol": "v1"}],
    "configs": [
        {"project": "demo", "repo": "https://demo.googlesource.com/demo", "path": "a/b.cfg"},
        {"project": "other", "bucket": "the-configs", "object": "other/luci-scheduler.cfg"},
        {"project": "third", "repo": "https://git.example.com/team/builds", "ref": "refs/heads/main"},
    ],
    "commit_publishers": ["user:committer@example.com"],
    "console": {
        "front_end": "load_balancer",
        "domain": "scheduler.example.com",
        "members": ["group:builders@example.com"],
        "admins": ["user:me@example.com"],
        "access": "{}",
        "oauth_clients": ["service-accounts", "123-abc.apps.googleusercontent.com"],
        "programmatic_clients": ["456-def.apps.googleusercontent.com"],
    },
    "image": {"runtime": "python312", "worker_pool": f"projects/{PROJECT}/locations/us-central1/workerPools/pool"},
    "canary": {"percent": 10, "stable": {"on_task": "staging-eu-luci-scheduler-on-task-00001-abc"}},
    "database": {
        "location": "nam5",
        "kms_key": "projects/keys/locations/us/keyRings/ring/cryptoKeys/database",
        "point_in_time_recovery": True,
        "weekly_backup_weeks": 4,
        "delete_protection": False,
    },
    "monitoring": {
        "emails": ["oncall@example.com"],
        "channels": ["projects/other/notificationChannels/123"],
        "runbooks": "https://example.com/docs/operations",
    },
    "budget": {"billing_account": "012345-6789AB-CDEF01", "monthly_amount": 50, "currency": "EUR"},
    "kms_key": f"projects/{PROJECT}/locations/us-central1/keyRings/ring/cryptoKeys/key",
    "vpc_connector": {"network": "default", "ip_cidr_range": "10.8.0.0/28"},
    "signing_key_generation": 3,
    "tuning": TUNING,
    "cloud_build": {
        "project": BUILDS,
        "location": "us-central1",
        "projects": {
            BUILDS: {"accounts": [f"documents@{BUILDS}.iam.gserviceaccount.com"]},
            PROJECT: {"accounts": [f"release@{PROJECT}.iam.gserviceaccount.com"], "create_topic": False},
        },
        "private_pools": [f"projects/{BUILDS}/locations/us-central1/workerPools/{name}" for name in ("a", "b")],
        "check_interval_seconds": 30,
        "run_seconds": 100,
    },
    "github": {
        "app": {"id": "Iv23liAbC", "installation_id": "12345", "private_key": {"secret": "github-key", "version": "3"}},
        "statuses": True,
        "hosts": {"git.example.com": "https://git.example.com/api/v3"},
        "credentials_host": "git.example.com",
        "webhook": {"secret": "github-webhook"},
        "actions": {"owner_id": "9919", "repository_ids": ["1296269", "1296270"], "ref": "refs/heads/main"},
    },
    "fetch_allowed_hosts": ["status.internal", "a.internal"],
    "invocation_events": {"enabled": True, "subscribers": ["group:readers@example.com"]},
    "labels": {"system": "luci-scheduler"},
}
