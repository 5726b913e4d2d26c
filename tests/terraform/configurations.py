"""Configurations that the tests apply: both examples, and the root module with every option."""

from typing import Any

PROJECT = "a-project-with-a-name-of-30-ch"  # the longest that there is
SERVERS = [{"host": "cr-buildbucket.appspot.com", "publisher": "cr-buildbucket@appspot.gserviceaccount.com"}]
LONG_PUBLISHER = "b" * (200 - len("@appspot.gserviceaccount.com")) + "@appspot.gserviceaccount.com"

MINIMAL = {"project_id": PROJECT, "config": {"project": "demo", "repo": "https://demo.googlesource.com/demo"}}
PRODUCTION = {
    "project_id": PROJECT,
    "configs": {"demo": "https://demo.googlesource.com/demo"},
    "billing_account": "012345-6789AB-CDEF01",
    "domain": "scheduler.example.com",
    "team": "builders@example.com",
    "oncall": "oncall@example.com",
}
EVERYTHING: dict[str, Any] = {
    "project_id": PROJECT,
    "prefix": "staging-eu",  # the longest valid prefix
    "buildbucket_servers": [*SERVERS, {"host": "old.example.com", "publisher": LONG_PUBLISHER, "protocol": "v1"}],
    "configs": [
        {"project": "demo", "repo": "https://demo.googlesource.com/demo", "path": "a/b.cfg"},
        {"project": "other", "bucket": "the-configs", "object": "other/luci-scheduler.cfg"},
    ],
    "commit_publishers": ["user:committer@example.com"],
    "console": {
        "members": ["group:builders@example.com"],
        "iap": {"domain": "scheduler.example.com"},
        "access": "{}",
        "oauth_clients": ["service-accounts", "123-abc.apps.googleusercontent.com"],
    },
    "database": {"location": "nam5", "point_in_time_recovery": True, "weekly_backup_weeks": 4},
    "monitoring": {"emails": ["oncall@example.com"]},
    "budget": {"billing_account": "012345-6789AB-CDEF01", "monthly_amount": 50, "currency": "EUR"},
    "kms_key": f"projects/{PROJECT}/locations/us-central1/keyRings/ring/cryptoKeys/key",
    "vpc_connector": {"network": "default", "ip_cidr_range": "10.8.0.0/28"},
    "signing_key_generation": 3,
    "tuning": {
        "check_interval_seconds": 300,
        "request_deadline_seconds": 50,
        "claim_lease_seconds": 70,
        "sweep_grace_seconds": 90,
        "concurrency": 8,
        "retention_days": 30,
        "keep_unchanged_polls": True,
        "gitiles_era": "v1",
        "gitiles_commits_per_ref": 40,
        "gitiles_commits_per_poll": 80,
        "gitiles_backfill": True,
        "commit_wait_seconds": 0,
        "lenient_triggers": True,
        "project_active_invocations": 500,
        "project_pending_triggers": 10000,
        "trust_commit_publishers": True,
    },
    "fetch_allowed_hosts": ["status.internal", "a.internal"],
    "labels": {"system": "luci-scheduler"},
}
