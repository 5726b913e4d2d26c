"""The life of a configuration: apply, second plan, planned upgrades, destroy."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.terraform.tool import ROOT, Resource, Terraform, changes, parse, reminders, resources


@dataclass
class Life:
    """The outputs of each step in a configuration's life."""

    variables: dict[str, Any]
    applied: CompletedProcess[str]
    resources: list[Resource]
    outputs: dict[str, Any]
    planned_again: CompletedProcess[str]
    destroyed: CompletedProcess[str]
    left: list[Resource]
    upgrades: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Name of an upgrade → the changes that its plan shows."""
    archive: bytes = b""
    reminders: dict[str, str] = field(default_factory=dict)
    """Address of a secret → the due time of its key in the last plan."""

    def all(self, type_: str) -> list[dict[str, Any]]:
        """Return the values of all resources of a type."""
        return [found.values for found in self.resources if found.type == type_]

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """Entry point → its function's environment, without secrets."""
        return {
            function["build_config"][0]["entry_point"]: function["service_config"][0]["environment_variables"]
            for function in self.all("google_cloudfunctions2_function")
        }


def live(
    terraform: Terraform,
    folder: Path,
    variables: dict[str, Any],
    then: Callable[[Life, str], None] = lambda _, __: None,
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
    then(life, given)
    life.destroyed = terraform.run(folder, "destroy", "-auto-approve", given)
    life.left = resources(parse(terraform.run(folder, "show", "-json")))
    terraform.run(folder, "clean")
    return life


def upgrade(terraform: Terraform, life: Life, given: str) -> None:
    """Plan upgrades without applying them: the queue's rate and name, the functions' source, and a year in service."""
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
    # After a year Google's services have changed some values, such as the time of the next reminder.
    done = terraform.run(ROOT, "drift", "--days", "400")
    assert done.returncode == 0, done.stdout + done.stderr
    life.upgrades["a year later"] = planned()
    before = life.reminders
    life.upgrades["more reminders"] = planned("-var=signing_key_rotation_days=30")
    assert life.reminders == before
    # The last plan, because the state forgets the database: docs/operations/restore-a-backup.md.
    done = terraform.run(ROOT, "state", "rm", "module.database")
    assert done.returncode == 0, done.stdout + done.stderr
    database = {**life.variables["database"], "name": "luci-scheduler-2"}
    life.upgrades["restore"] = planned(f"-var=database={json.dumps(database)}")


def _archive(terraform: Terraform, life: Life, given: str) -> bytes:
    """Return the uploaded archive. Terraform reads it, because the path is relative to Terraform's folder."""
    (uploaded,) = life.all("google_storage_bucket_object")
    done = terraform.run(ROOT, "console", given, typed=f'filebase64("{uploaded["source"]}")\n')
    assert done.returncode == 0, done.stdout + done.stderr
    # On a slow machine, Terraform first writes that it waits for the lock.
    return base64.b64decode(json.loads(done.stdout.splitlines()[-1]), validate=True)
