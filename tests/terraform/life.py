"""The life of a configuration: apply, second plan, time in service, planned upgrades, destroy."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from emulator.supervisor import FUNCTIONS
from tests.terraform.services import Service, services
from tests.terraform.tool import ROOT, Resource, Terraform, changes, parse, reminders, resources

ROLLBACK = f"us-central1-docker.pkg.dev/a-project/luci-scheduler/functions@sha256:{'0' * 64}"
"""The image of an earlier version."""
_SMALLER = f"-var=functions={json.dumps({name: {'max_instances': 2} for name in FUNCTIONS})}"
OLDER, NEWER = "6", "7"
"""Major versions of the Google providers."""


@dataclass
class Life:
    """The outputs of each step in a configuration's life."""

    variables: dict[str, Any]
    applied: CompletedProcess[str]
    resources: list[Resource]
    outputs: dict[str, Any]
    state: str
    """Terraform's state file."""
    planned_again: CompletedProcess[str]
    destroyed: CompletedProcess[str]
    left: list[Resource]
    aged: dict[int, CompletedProcess[str]] = field(default_factory=dict)
    """Days in service → a plan after them."""
    upgrades: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Name of an upgrade → the changes that its plan shows."""
    rotated: str = ""
    """The output of an apply that rotated the keys."""
    archive: bytes = b""
    reminders: dict[str, str] = field(default_factory=dict)
    """Address of a secret → the due time of its key in the last plan."""
    protected: tuple[CompletedProcess[str], list[Resource]] | None = None
    """A destroy of the protected installation, and the resources after it."""
    unprotected: CompletedProcess[str] | None = None
    """An apply that turned the protection off."""

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
    """Apply a configuration, take further steps, and destroy it. The further steps have the newer provider."""
    path = terraform.checkout / f"{folder.name}.tfvars.json"
    path.write_text(json.dumps(variables), encoding="utf-8")
    given = f"-var-file={path}"
    applied = terraform.run(folder, "apply", "-auto-approve", given, GOOGLE=provider)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    shown = parse(terraform.run(folder, "show", "-json", GOOGLE=provider))
    life = Life(
        variables,
        applied,
        resources(shown),
        {name: output["value"] for name, output in shown["values"]["outputs"].items()},
        terraform.run(folder, "state", "pull", GOOGLE=provider).stdout,
        terraform.run(folder, "plan", "-detailed-exitcode", given, GOOGLE=provider),
        applied,
        [],
    )
    then(life, given)
    life.destroyed = terraform.run(folder, "destroy", "-auto-approve", given)
    life.left = resources(parse(terraform.run(folder, "show", "-json")))
    terraform.run(folder, "clean")
    return life


def drift(terraform: Terraform, folder: Path, days: int, provider: str = NEWER) -> None:
    """Let time pass, in which Google's services change values by themselves."""
    done = terraform.run(folder, "drift", "--days", str(days), GOOGLE=provider)
    assert done.returncode == 0, done.stdout + done.stderr


def age(terraform: Terraform, folder: Path, life: Life, given: str, days: int, provider: str = NEWER) -> None:
    """Let time pass, and plan then."""
    drift(terraform, folder, days, provider)
    life.aged[days] = terraform.run(folder, "plan", "-detailed-exitcode", given, GOOGLE=provider)


def destroy_protected(terraform: Terraform, folder: Path, life: Life, given: str) -> None:
    """Destroy the protected example, then turn the protection off as a user does, with the newer provider."""
    done = terraform.run(folder, "destroy", "-auto-approve", given)
    life.protected = done, resources(parse(terraform.run(folder, "show", "-json")))
    override = terraform.checkout / folder / "unprotected_override.tf"
    override.write_text('module "scheduler" {\n  database = { delete_protection = false }\n}\n', encoding="utf-8")
    life.unprotected = terraform.run(folder, "apply", "-auto-approve", given)
    assert life.unprotected.returncode == 0, life.unprotected.stdout + life.unprotected.stderr


def upgrade(terraform: Terraform, life: Life, given: str) -> None:
    """Plan upgrades without applying them. Then apply sizes and a key after a quarter, and plan after a year."""
    life.archive = _archive(terraform, life, given)
    plan = str(terraform.checkout / "upgrade.plan")

    def planned(*more: str) -> dict[str, list[str]]:
        done = terraform.run(ROOT, "plan", f"-out={plan}", given, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = parse(terraform.run(ROOT, "show", "-json", plan))
        life.reminders = reminders(shown)
        return changes(shown)

    life.upgrades["queue name"] = planned('-var=queue={"name": "luci-scheduler-2"}')
    life.upgrades["rate"] = planned('-var=queue={"dispatches_per_second": 100}')
    source = terraform.checkout / "functions/main.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text + "# a change\n", encoding="utf-8")
    life.upgrades["source"] = planned()
    source.write_text(text, encoding="utf-8")
    life.upgrades["rollback"] = planned(f"-var=image={json.dumps({**life.variables['image'], 'reference': ROLLBACK})}")
    drift(terraform, ROOT, 91)
    rotated = [_SMALLER, f"-var=signing_key_generation={life.variables['signing_key_generation'] + 1}"]
    done = terraform.run(ROOT, "apply", "-auto-approve", given, *rotated)
    assert done.returncode == 0, done.stdout + done.stderr
    life.rotated = done.stdout
    drift(terraform, ROOT, 309)
    life.aged[400] = terraform.run(ROOT, "plan", "-detailed-exitcode", given, *rotated)
    life.upgrades["more reminders"] = planned(*rotated, "-var=signing_key_rotation_days=30")


def _archive(terraform: Terraform, life: Life, given: str) -> bytes:
    """Return the uploaded archive. Terraform reads it, because the path is relative to Terraform's folder."""
    (uploaded,) = life.all("google_storage_bucket_object")
    done = terraform.run(ROOT, "console", given, typed=f'filebase64("{uploaded["source"]}")\n')
    assert done.returncode == 0, done.stdout + done.stderr
    return base64.b64decode(json.loads(done.stdout), validate=True)
