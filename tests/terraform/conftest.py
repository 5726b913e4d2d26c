"""Each configuration is applied, planned again, changed on paper, and destroyed: once per session; tests look at what came of it."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.terraform.tool import ROOT, Resource, Terraform, changes, copy_checkout, find_terraform, parse, resources

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
    "prefix": "staging-eu",  # the longest that is taken
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
    },
    "fetch_allowed_hosts": ["status.internal", "a.internal"],
    "labels": {"system": "luci-scheduler"},
}


@dataclass
class Life:
    """What became of a configuration from its first apply to its end."""

    variables: dict[str, Any]
    applied: CompletedProcess[str]
    resources: list[Resource]
    outputs: dict[str, Any]
    planned_again: CompletedProcess[str]
    destroyed: CompletedProcess[str]
    left: list[Resource]
    upgrades: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """What would change if ..., by the name of the upgrade."""
    archive: bytes = b""

    def all(self, type_: str) -> list[dict[str, Any]]:
        """Return the values of all resources of a type."""
        return [found.values for found in self.resources if found.type == type_]

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """Entry point → the environment that its function gets, secrets apart."""
        return {
            function["build_config"][0]["entry_point"]: function["service_config"][0]["environment_variables"]
            for function in self.all("google_cloudfunctions2_function")
        }


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform on a copy of the checkout."""
    found = find_terraform(copy_checkout(tmp_path_factory.mktemp("terraform") / "checkout"))
    if isinstance(found, str):
        pytest.skip(f"not run: {found}")
    return found


@pytest.fixture(scope="session")
def offline(terraform: Terraform) -> Terraform:
    """Terraform with stand-in providers: apply needs no account."""
    if not terraform.stand_in:
        pytest.skip("not run: apply needs the stand-in providers of TERRAFORM_OFFLINE, or an account")
    return terraform


def _live(
    terraform: Terraform,
    folder: Path,
    variables: dict[str, Any],
    upgrade: Callable[[Life, str], None] = lambda _, __: None,
) -> Life:
    path = terraform.checkout / f"{folder.name}.tfvars.json"
    path.write_text(json.dumps(variables), encoding="utf-8")
    given = f"-var-file={path}"
    applied = terraform.run(folder, "apply", "-auto-approve", given)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    shown = parse(terraform.run(folder, "show", "-json"))
    life = Life(
        variables,
        applied,
        resources(shown),
        {name: output["value"] for name, output in shown["values"]["outputs"].items()},
        terraform.run(folder, "plan", "-detailed-exitcode", given),
        applied,
        [],
    )
    upgrade(life, given)
    life.destroyed = terraform.run(folder, "destroy", "-auto-approve", given)
    life.left = resources(parse(terraform.run(folder, "show", "-json")))
    terraform.run(folder, "clean")
    return life


def _upgrade(terraform: Terraform, life: Life, given: str) -> None:
    """Plan two changes, without making them: a queue's rate, and the functions' source."""
    life.archive = _archive(terraform, life, given)
    plan = str(terraform.checkout / "upgrade.plan")

    def planned(*more: str) -> dict[str, list[str]]:
        done = terraform.run(ROOT, "plan", f"-out={plan}", given, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return changes(parse(terraform.run(ROOT, "show", "-json", plan)))

    life.upgrades["rate"] = planned('-var=queue={"dispatches_per_second": 100}')
    source = terraform.checkout / "functions/main.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text + "# a change\n", encoding="utf-8")
    life.upgrades["source"] = planned()


@pytest.fixture(scope="session")
def lives(offline: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Life]]]:
    """All configurations, lived side by side; the one whose source changes has a checkout of its own."""
    changing = Terraform(copy_checkout(tmp_path_factory.mktemp("terraform") / "changing"), offline.stand_in)
    with ThreadPoolExecutor(2) as pool:
        yield {
            "everything": pool.submit(_live, changing, ROOT, EVERYTHING, partial(_upgrade, changing)),
            "minimal": pool.submit(_live, offline, ROOT / "examples/minimal", MINIMAL),
            "production": pool.submit(_live, offline, ROOT / "examples/production", PRODUCTION),
        }


@pytest.fixture(scope="session")
def minimal(lives: dict[str, Future[Life]]) -> Life:
    """The example of at most fifteen lines."""
    return lives["minimal"].result()


@pytest.fixture(scope="session")
def production(lives: dict[str, Future[Life]]) -> Life:
    """The example with what a lasting installation has."""
    return lives["production"].result()


@pytest.fixture(scope="session")
def everything(lives: dict[str, Future[Life]]) -> Life:
    """The root module with every optional feature, the longest project name and the longest prefix; and two upgrades on paper."""
    return lives["everything"].result()


def _archive(terraform: Terraform, life: Life, given: str) -> bytes:
    """Return the archive that was uploaded; Terraform reads it, since the path is relative to where it runs."""
    (uploaded,) = life.all("google_storage_bucket_object")
    done = terraform.run(ROOT, "console", given, typed=f'filebase64("{uploaded["source"]}")\n')
    assert done.returncode == 0, done.stdout + done.stderr
    return base64.b64decode(json.loads(done.stdout), validate=True)


@pytest.fixture(scope="session", params=["minimal", "production", "everything"])
def life(request: pytest.FixtureRequest) -> Life:
    """Each configuration in turn."""
    found: Life = request.getfixturevalue(request.param)
    return found
