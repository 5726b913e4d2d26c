"""Wrong values of every variable, with a part of the expected message."""

from itertools import zip_longest
from typing import Any

from tests.terraform.configurations import EVERYTHING

SIZES = {"cpu": "1", "memory": "512Mi", "concurrency": 1, "max_instances": 1}
REPO = "https://demo.googlesource.com/demo"
WRONG: dict[str, list[tuple[Any, tuple[str, ...]] | None]] = {
    "project_id": [("My Project", ("gcloud projects list",)), ("123", ("not its name or number",))],
    "region": [("us-central1-a", ("not a zone",)), ("US", ("gcloud run regions list",))],
    "prefix": [
        ("google", ('begin with "goog"',)),
        ("a-prefix-that-is-long", ("2 to 10",)),
        ("dash-", ("end without a dash",)),
    ],
    "app_id": [("LUCI Scheduler", ("lower-case",))],
    "buildbucket_servers": [
        ([], ("name at least one",)),
        (
            [{"host": "https://h.example.com", "publisher": "serviceAccount:a@example.com", "protocol": "v3"}] * 2,
            ("leave out https://", 'without "serviceAccount:"', 'protocol must be "v2"', "leave one of them"),
        ),
    ],
    "configs": [
        ([], ("there would be no job",)),
        (
            [
                {"project": "Demo", "repo": REPO, "bucket": "b"},
                {"project": "Demo", "repo": "https://example.com/r"},
                {"project": "demo", "repo": "https://HOST.googlesource.com/REPO"},
                {"project": "four", "repo": "https://github.com/OWNER/NAME"},
            ],
            (
                "name of a LUCI project",
                "names a project twice",
                "leave out the others",
                "put into a bucket",
                "replace HOST and REPO",
                "60 calls an hour",
            ),
        ),
    ],
    "commit_publishers": [
        (["allUsers"], ("allUsers is not accepted",)),
        (["me@example.com"], ("user:me@example.com",)),
    ],
    "console": [
        (
            {
                "front_end": "gateway",
                "members": ["allAuthenticatedUsers"],
                "admins": ["group:admins@example.com"],
                "access": "{",
                "domain": "https://x.example.com/",
                "oauth_clients": ["*"],
                "programmatic_clients": ["*"],
            },
            (
                "without an organization",
                "use a group of people",
                "name the people",
                "write it with jsonencode",
                "leave out https://",
                "set or leave out both",
                "clients you do not trust",
                "auth/clients",
                "leave them out",
            ),
        ),
        ({"front_end": "load_balancer"}, ("set or leave out both",)),
    ],
    "image": [
        (
            {"reference": "us-central1-docker.pkg.dev/p/r/n:latest", "runtime": "python39", "worker_pool": "pool"},
            ("terraform output image", "from python311 on", "gcloud builds worker-pools list"),
        ),
        ({"build": False}, ("image of another installation",)),
    ],
    "canary": [
        # Its validation also reads the prefix, so it waits for a round with a valid one.
        *[None] * 3,
        ({"percent": 10.5, "stable": {}}, ("whole number from 0", "terraform output revisions")),
        ({"percent": 10, "stable": {"on_task": "luci-scheduler-console-00001-abc"}}, ("terraform output revisions",)),
    ],
    "functions": [
        (
            {
                "on_task": {**SIZES, "cpu": "500m"},
                "console": {**SIZES, "memory": "512MB"},
                "on_gitiles_commit": {**SIZES, "cpu": "0.5", "concurrency": 8},
                "on_build_completion": {**SIZES, "max_instances": 0},
            },
            ("write no unit", "memory must be like", "raise cpu", "bounds the bill"),
        ),
        (
            {"on_task": {**SIZES, "cpu": "3"}, "console": {**SIZES, "cpu": "0.3333", "memory": "1Gi"}},
            ("sizes of Cloud Run", "1Gi below 1 CPU"),
        ),
        ({"on_task": {**SIZES, "cpu": "4", "memory": "1Gi"}}, ("2Gi with 4 CPUs",)),
    ],
    "quota": [
        # Its validations also read the sizes, so they wait for rounds with valid ones.
        *[None] * 3,
        ({"cpu": 0}, ("copy them from",)),
        (
            {"cpu": 8, "memory_gib": 12.25},
            (
                "on_build_completion needs up to 8.3 CPUs of 8, so at most 48 instances fit",
                "on_task needs up to 12.5 GiB of 12.25, so at most 49 instances fit",
            ),
        ),
    ],
    "queue": [
        ({"dispatches_per_second": 501, "name": "luci_scheduler"}, ("at most 500", "the prefix precedes it")),
        ({"dispatches_per_second": 0}, ("above 0",)),
    ],
    "database": [
        (
            {
                "name": "Firestore",
                "location": "us-central1-a",
                "daily_backup_days": 99,
                "weekly_backup_weeks": 0.5,
            },
            (
                "lower-case",
                "gcloud firestore locations list",
                "daily_backup_days must be a whole number",
                "weekly_backup_weeks must be a whole number",
            ),
        ),
    ],
    "schedules": [({"sync": "10m"}, ("five cron fields",)), ({"sweep": ""}, ("five cron fields",))],
    "signing_key_generation": [(0, ("raise it by one",)), (1.5, ("whole number",))],
    "signing_key_rotation_days": [(1, ("between 3",)), (5000, ("3650",))],
    "tuning": [
        (
            {
                "concurrency": 0,
                "request_deadline_seconds": 120,
                "commit_wait_seconds": -1,
                "retention_days": 7,
                "gitiles_era": "v3",
            },
            (
                "omit a member to use its default",
                "raise the lease",
                "lower it",
                "without a check with its host",
                "remembered longer",
                "those of 2021",
            ),
        ),
        ({"request_deadline_seconds": 80}, ("raise the lease",)),
        ({"project_active_invocations": 0}, ("omit a member to use its default",)),
    ],
    "fetch_allowed_hosts": [(["https://x"], ("leave out https://",))],
    "cloud_build": [
        # The validations of buildbucket_servers and canary also read it, so it has a round in which neither is wrong.
        *[None] * 2,
        (
            {
                "project": "My Project",
                "projects": {"other-project": {"accounts": ["sched-functions@other-project.iam.gserviceaccount.com"]}},
                "location": "us",
                "account": "123-compute@developer.gserviceaccount.com",
                "role": "roles/owner",
                "private_pools": ["pool"],
                "check_interval_seconds": -1,
                "run_seconds": 600,
            },
            (
                "ID of a project",
                "region of your private pool",
                "Google's default accounts",
                "the module makes that role",
                "gcloud builds worker-pools list",
                "random time of one to ten minutes",
                "from 1 to 180",
                "a build runs foreign code",
            ),
        ),
    ],
    "github": [
        # The validation of configs also reads it.
        *[None] * 2,
        (
            {
                "token": {"secret": "github_pat_11AB.example"},
                "app": {"id": "my app", "installation_id": "x", "private_key": {"secret": "key"}},
                "hosts": {"https://git.example.com": "git.example.com"},
                "credentials_host": "git.example.com",
                "webhook": {"secret": "key"},
                "actions": {"owner_id": "example-org", "repository_ids": ["widget"], "ref": "main"},
            },
            (
                "leave out one of them",
                "must not hold the token or the key",
                "never its value",
                "ID or client ID",
                "without a slash at the end",
                "correct its name",
                "names can change hands",
                "one full ref",
            ),
        ),
        (
            {"statuses": True, "actions": {"owner_id": "1", "repository_ids": [], "pool": "a-pool-with-a-long-name"}},
            ("set token or app", "at least one repository", "4 to 21"),
        ),
    ],
    "invocation_events": [
        ({"enabled": True, "subscribers": ["allUsers"]}, ("list the readers",)),
        ({"subscribers": ["user:me@example.com"]}, ("leave out subscribers",)),
    ],
    "monitoring": [
        (
            {
                "emails": ["email:x"],
                "channels": ["123"],
                "runbooks": "docs/operations",
                "latency": {"goal": 95},
                "silence_hours": 48,
            },
            (
                "plain addresses",
                "gcloud beta monitoring channels list",
                "https address without a slash",
                "a share from 0.5",
                "a whole number from 1 to 24",
            ),
        ),
    ],
    "budget": [
        (
            {"billing_account": "mine", "monthly_amount": 0.5, "currency": "$"},
            ("gcloud billing accounts list", "whole number", "three capital letters"),
        ),
    ],
    "kms_key": [
        # Its validation also reads the region and the database, so it waits for a round in which they are valid.
        # The key of the database is tried in infra/terraform/tests/database.tftest.hcl.
        None,
        None,
        ("key", ("gcloud kms keys list",)),
        ("projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k", ("in the region of the functions",)),
    ],
    "vpc_connector": [
        ({"network": "projects/p/global/networks/n", "ip_cidr_range": "10.8.0.0/24"}, ("short name", "16 addresses")),
    ],
    "labels": [({"Team": "x"}, ("rename the others",)), ({"team": "X Y"}, ("rename the others",))],
}
"""Variable → wrong values, each with the remedies in the messages: one for each fault of the value."""

ROUNDS = [
    {name: case for name, case in zip(WRONG, cases, strict=True) if case is not None}
    for cases in zip_longest(*WRONG.values())
]
"""Terraform reports all variables at once, so each round has one wrong value of each."""


def rounds() -> list[dict[str, Any]]:
    """Return the variables of each round; the last one has a value of a wrong type."""
    good = {name: EVERYTHING[name] for name in ("project_id", "buildbucket_servers")}
    good["configs"] = [source for source in EVERYTHING["configs"] if source["project"] != "third"]
    wrong = [{**good, **{name: value for name, (value, _) in case.items()}} for case in ROUNDS]
    return [*wrong, {**good, "buildbucket_servers": [{"host": "h.example.com"}]}]
