"""Wrong values of every variable, with a part of the expected message."""

from itertools import zip_longest
from typing import Any

from tests.terraform.configurations import EVERYTHING

SERVER = {"host": "h.example.com", "publisher": "a@example.com"}
SIZES = {"cpu": "1", "memory": "512Mi", "concurrency": 1, "max_instances": 1}
REPO = "https://demo.googlesource.com/demo"
WRONG: dict[str, list[tuple[Any, str] | None]] = {
    "project_id": [("My Project", "gcloud projects list"), ("123", "not its name or number")],
    "region": [("us-central1-a", "not a zone"), ("US", "gcloud run regions list")],
    "prefix": [("google", 'begin with "goog"'), ("a-prefix-that-is-long", "2 to 10"), ("dash-", "end without a dash")],
    "app_id": [("LUCI Scheduler", "lower-case")],
    "buildbucket_servers": [
        ([], "name at least one"),
        ([{**SERVER, "host": "https://h.example.com"}], "leave out https://"),
        ([{**SERVER, "publisher": "serviceAccount:a@example.com"}], 'without "serviceAccount:"'),
        ([{**SERVER, "protocol": "v3"}], 'protocol must be "v2"'),
        ([SERVER, SERVER], "leave one of them"),
    ],
    "configs": [
        ([], "there would be no job"),
        ([{"project": "Demo", "repo": REPO}], "name of a LUCI project"),
        ([{"project": "demo", "repo": REPO}, {"project": "demo", "repo": REPO}], "names a project twice"),
        ([{"project": "demo", "repo": REPO, "bucket": "b"}], "leave out the others"),
        ([{"project": "demo", "repo": "https://example.com/r"}], "put into a bucket"),
        ([{"project": "demo", "repo": "https://HOST.googlesource.com/REPO"}], "replace HOST and REPO"),
    ],
    "commit_publishers": [(["allUsers"], "allUsers is not accepted"), (["me@example.com"], "user:me@example.com")],
    "console": [
        ({"members": ["allAuthenticatedUsers"]}, "use a group of people"),
        ({"access": "{"}, "write it with jsonencode"),
        ({"front_end": "load_balancer", "domain": "https://x.example.com/"}, "leave out https://"),
        ({"oauth_clients": ["*"]}, "clients you do not trust"),
        ({"front_end": "gateway"}, "without an organization"),
        ({"admins": ["group:admins@example.com"]}, "name the people"),
        ({"front_end": "load_balancer"}, "set or leave out both"),
        ({"programmatic_clients": ["*"]}, "auth/clients"),
        ({"front_end": "proxy", "programmatic_clients": ["1-a.apps.googleusercontent.com"]}, "leave them out"),
    ],
    "image": [
        ({"reference": "us-central1-docker.pkg.dev/p/r/n:latest"}, "terraform output image"),
        ({"build": False}, "image of another installation"),
        ({"runtime": "python39"}, "from python311 on"),
        ({"worker_pool": "pool"}, "gcloud builds worker-pools list"),
    ],
    "canary": [
        # Its validation also reads the prefix, so it waits for a round with a valid one.
        *[None] * 3,
        ({"percent": 10.5, "stable": {"on_task": "luci-scheduler-on-task-00001-abc"}}, "whole number from 0"),
        ({"percent": 10, "stable": {}}, "terraform output revisions"),
        ({"percent": 10, "stable": {"on_task": "luci-scheduler-console-00001-abc"}}, "terraform output revisions"),
    ],
    "functions": [
        ({"on_task": {**SIZES, "cpu": "500m"}}, "write no unit"),
        ({"on_task": {**SIZES, "cpu": "3"}}, "sizes of Cloud Run"),
        ({"console": {**SIZES, "memory": "512MB"}}, "512Mi"),
        ({"on_task": {**SIZES, "cpu": "0.5", "concurrency": 8}}, "raise cpu"),
        ({"on_task": {**SIZES, "max_instances": 0}}, "bounds the bill"),
        ({"on_task": {**SIZES, "cpu": "0.3333", "memory": "1Gi"}}, "1Gi below 1 CPU"),
        ({"on_task": {**SIZES, "cpu": "4", "memory": "1Gi"}}, "2Gi with 4 CPUs"),
    ],
    "quota": [
        # Its validations also read the sizes, so they wait for rounds with valid ones.
        *[None] * 7,
        ({"cpu": 0}, "copy them from"),
        ({"cpu": 16}, "on_build_completion needs up to 16.7 CPUs of 16, so at most 48 instances fit"),
        ({"memory_gib": 24.5}, "on_task needs up to 25.0 GiB of 24.5, so at most 49 instances fit"),
    ],
    "queue": [
        ({"dispatches_per_second": 501}, "at most 500"),
        ({"dispatches_per_second": 0}, "above 0"),
        ({"name": "luci_scheduler"}, "the prefix precedes it"),
    ],
    "database": [
        ({"name": "Firestore"}, "lower-case"),
        ({"location": "us-central1-a"}, "gcloud firestore locations list"),
        ({"daily_backup_days": 99}, "daily_backup_days must be a whole number"),
        ({"weekly_backup_weeks": 0.5}, "weekly_backup_weeks must be a whole number"),
    ],
    "schedules": [({"sync": "10m"}, "five cron fields"), ({"sweep": ""}, "five cron fields")],
    "signing_key_generation": [(0, "raise it by one"), (1.5, "whole number")],
    "signing_key_rotation_days": [(1, "between 3"), (5000, "3650")],
    "tuning": [
        ({"concurrency": 0}, "omit a member to use its default"),
        ({"request_deadline_seconds": 80}, "raise the lease"),
        ({"request_deadline_seconds": 120, "claim_lease_seconds": 200}, "lower it"),
        ({"commit_wait_seconds": -1}, "without a check with its host"),
        ({"project_active_invocations": 0}, "omit a member to use its default"),
        ({"retention_days": 7}, "remembered longer"),
        ({"gitiles_era": "v3"}, "those of 2021"),
    ],
    "fetch_allowed_hosts": [(["https://x"], "leave out https://")],
    "monitoring": [
        ({"emails": ["email:x"]}, "plain addresses"),
        ({"channels": ["123"]}, "gcloud beta monitoring channels list"),
        ({"runbooks": "docs/operations"}, "https address without a slash"),
        ({"latency": {"goal": 95}}, "a share from 0.5"),
        ({"silence_hours": 48}, "a whole number from 1 to 24"),
    ],
    "budget": [
        ({"billing_account": "mine", "monthly_amount": 5}, "gcloud billing accounts list"),
        ({"billing_account": "012345-6789AB-CDEF01", "monthly_amount": 0.5}, "whole number"),
        ({"billing_account": "012345-6789AB-CDEF01", "monthly_amount": 5, "currency": "$"}, "three capital letters"),
    ],
    "kms_key": [
        # Its validation also reads the region and the database, so it waits for a round in which they are valid.
        # The key of the database is tried in infra/terraform/tests/database.tftest.hcl.
        None,
        None,
        None,
        None,
        ("key", "gcloud kms keys list"),
        ("projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k", "in the region of the functions"),
    ],
    "vpc_connector": [
        ({"network": "projects/p/global/networks/n", "ip_cidr_range": "10.8.0.0/28"}, "short name"),
        ({"network": "n", "ip_cidr_range": "10.8.0.0/24"}, "16 addresses"),
    ],
    "labels": [({"Team": "x"}, "rename the others"), ({"team": "X Y"}, "rename the others")],
}
"""Variable → wrong values, each with the remedy in the message."""

ROUNDS = [
    {name: case for name, case in zip(WRONG, cases, strict=True) if case is not None}
    for cases in zip_longest(*WRONG.values())
]
"""Terraform reports all variables at once, so each round has one wrong value of each."""


def rounds() -> list[dict[str, Any]]:
    """Return the variables of each round; the last one has a value of a wrong type."""
    good = {name: EVERYTHING[name] for name in ("project_id", "configs", "buildbucket_servers")}
    wrong = [{**good, **{name: value for name, (value, _) in case.items()}} for case in ROUNDS]
    return [*wrong, {**good, "buildbucket_servers": [{"host": "h.example.com"}]}]
