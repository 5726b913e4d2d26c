"""The life of a configuration: apply, time in service, planned upgrades, destroy."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from emulator.supervisor import FUNCTIONS
from tests.terraform.services import Service, services
from tests.terraform.tool import ROOT, Resource, Terraform, changes, outputs, reminders, resources, succeeded

ROLLBACK = f"us-central1-docker.pkg.dev/a-project/luci-scheduler/functions@sha256:{'0' * 64}"
"""The image of an earlier version."""
_SIZES = {name: {"max_instances": 2} for name in (*FUNCTIONS, "on_cloud_build")}
_SMALLER = f"-var=functions={json.dumps(_SIZES)}"
OLDER, NEWER = "6", "7"
"""Major versions of the Google providers."""


@dataclass
class Life:
    """The outputs of each step in a configuration's life."""

    variables: dict[str, Any]
    resources: list[Resource]
    outputs: dict[str, Any]
    state: str
    """Terraform's state file."""
    destroyed: CompletedProcess[str] | None = None
    left: list[Resource] = field(default_factory=list)
    aged: dict[int, CompletedProcess[str]] = field(default_factory=dict)
    """Days in service → a plan after them."""
    upgrades: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name of an upgrade → the changes that its plan shows."""
    rotated: str = ""
    """The output of an apply that rotated the keys."""
    archive: bytes = b""
    reminders: dict[str, str] = field(default_factory=dict)
    """Address of a secret → the due time of its key in the last plan."""
    protected: CompletedProcess[str] | None = None
    """A destroy of the protected installation; ``left`` has the resources that it left."""
    unprotected: str = ""
    """The output of an apply that turned the protection off and added a budget."""

    def all(self, type_: str) -> list[dict[str, Any]]:
        """Return the values of all resources of a type."""
        return [found.values for found in self.resources if found.type == type_]

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """Entry point → its function's environment, without secrets."""
        return {function: service.environment for function, service in self.services.items()}

    @property
    def services(self) -> dict[str, Service]:
        """Entry point → its service."""
        return services(self.resources)


Then = Callable[[Life, str], None]
"""More steps, given the life and the option that names its variables."""


def live(
    terraform: Terraform,
    folder: Path,
    variables: dict[str, Any],
    then: Then = lambda _, __: None,
    provider: str = NEWER,
) -> Life:
    """Apply a configuration, and take further steps with the newer provider."""
    given = terraform.given(variables)
    succeeded(terraform.run(folder, "apply", "-auto-approve", given, GOOGLE=provider))
    state = succeeded(terraform.run(folder, "state", "pull", GOOGLE=provider))
    life = Life(variables, resources(state), outputs(state), state)
    then(life, given)
    terraform.run(folder, "clean")
    return life


def drift(terraform: Terraform, folder: Path, days: int, provider: str = NEWER) -> None:
    """Let time pass, in which Google's services change values by themselves."""
    succeeded(terraform.run(folder, "drift", "--days", str(days), GOOGLE=provider))


def age(terraform: Terraform, folder: Path, life: Life, given: str, days: int, provider: str = NEWER) -> None:
    """Let time pass, and plan then."""
    drift(terraform, folder, days, provider)
    life.aged[days] = terraform.run(folder, "plan", "-detailed-exitcode", given, GOOGLE=provider)


def destroy(terraform: Terraform, folder: Path, life: Life, given: str) -> CompletedProcess[str]:
    """Destroy the installation, and note the resources that are left."""
    done = terraform.run(folder, "destroy", "-auto-approve", given)
    life.left = resources(succeeded(terraform.run(folder, "state", "pull")))
    return done


_UNPROTECTED = """module "scheduler" {
  database = { delete_protection = false }
  budget   = { billing_account = "012345-6789AB-CDEF01", monthly_amount = 50 }
}
"""


def destroy_protected(terraform: Terraform, folder: Path, life: Life, given: str) -> None:
    """Destroy the protected example, then turn the protection off and add a budget, with the newer provider."""
    life.protected = destroy(terraform, folder, life, given)
    override = terraform.checkout / folder / "unprotected_override.tf"
    override.write_text(_UNPROTECTED, encoding="utf-8")
    life.unprotected = succeeded(terraform.run(folder, "apply", "-auto-approve", given))


def upgrade(terraform: Terraform, life: Life, given: str) -> None:
    """Plan upgrades without applying them. Then apply sizes and a key after a quarter, and plan after a year."""
    life.archive = _archive(terraform, life, given)

    def planned(*more: str) -> dict[str, str]:
        return changes(succeeded(terraform.run(ROOT, "plan", "-json", given, *more)))

    # Two changes share a plan where each changes other resources.
    rollback = json.dumps({**life.variables["image"], "reference": ROLLBACK})
    life.upgrades["rollback, rate"] = planned(f"-var=image={rollback}", '-var=queue={"dispatches_per_second": 100}')
    source = terraform.checkout / "functions/main.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text + "# a change\n", encoding="utf-8")
    life.upgrades["source, queue name"] = planned('-var=queue={"name": "luci-scheduler-2"}')
    source.write_text(text, encoding="utf-8")
    drift(terraform, ROOT, 91)
    rotated = [_SMALLER, f"-var=signing_key_generation={life.variables['signing_key_generation'] + 1}"]
    life.rotated = succeeded(terraform.run(ROOT, "apply", "-auto-approve", given, *rotated))
    drift(terraform, ROOT, 309)
    life.aged[400] = terraform.run(ROOT, "plan", "-detailed-exitcode", given, *rotated)
    # The last plan, because the state forgets the database: docs/operations/restore-a-backup.md.
    succeeded(terraform.run(ROOT, "state", "rm", "module.database"))
    database = json.dumps({**life.variables["database"], "name": "luci-scheduler-2"})
    plan = str(terraform.checkout / "upgrade.plan")
    life.upgrades["restore, more reminders"] = planned(
        *rotated, f"-var=database={database}", "-var=signing_key_rotation_days=30", f"-out={plan}"
    )
    life.reminders = reminders(json.loads(succeeded(terraform.run(ROOT, "show", "-json", plan))))
    life.destroyed = destroy(terraform, ROOT, life, given)


def _archive(terraform: Terraform, life: Life, given: str) -> bytes:
    """Return the uploaded archive. Terraform reads it, because the path is relative to Terraform's folder."""
    (uploaded,) = life.all("google_storage_bucket_object")
    shown = succeeded(terraform.run(ROOT, "console", given, typed=f'filebase64("{uploaded["source"]}")\n'))
    # On a slow machine, Terraform first writes that it waits for the lock.
    return base64.b64decode(json.loads(shown.splitlines()[-1]), validate=True)
