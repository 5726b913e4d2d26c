"""Terraform for the tests: with the real providers, otherwise with stand-ins, otherwise absent."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent.parent
ROOT = Path("infra/terraform")
_TIMEOUT = 600.0  # seconds for one command, which takes about ten on an idle machine
_ENVIRONMENT = {
    "TF_OFFLINE_SERVICES": "on",
    "TF_OFFLINE_IAM_DELAY": "60",
    "TF_OFFLINE_METRIC_DELAY": "600",
    "TF_OFFLINE_CMEK_DATABASES": "1",
    # Terraform looks for garbage less often. A plan takes a seventh less processor time, and more memory.
    "GOGC": "400",
}
"""The stand-ins refuse what the services refuse in a new project: order of APIs, quotas, fresh grants."""


@dataclass(frozen=True)
class Terraform:
    """Terraform commands in a copy of the checkout.

    With stand-ins (``TERRAFORM_OFFLINE``) apply and destroy work without an account.
    With the real providers only mocked runs do.
    """

    checkout: Path
    stand_in: str
    """Command that runs Terraform with stand-in providers, or empty with the real providers."""

    def given(self, variables: Mapping[str, Any]) -> str:
        """Write variables to a new file of the checkout, and return the option that names it."""
        number = len(list(self.checkout.glob("*.tfvars.json")))
        path = self.checkout / f"{number}.tfvars.json"
        path.write_text(json.dumps(variables), encoding="utf-8")
        return f"-var-file={path}"

    def run(self, folder: Path, *arguments: str, typed: str = "", **cloud: str) -> subprocess.CompletedProcess[str]:
        """Run one command on a configuration, ``folder`` within the checkout; ``typed`` is its standard input.

        ``cloud`` are settings of the stand-ins, without their prefix: ``GOOGLE="6"`` is an older provider.
        """
        at = str(self.checkout / folder)
        command = [self.stand_in, at] if self.stand_in else ["terraform", f"-chdir={at}"]
        return subprocess.run(
            [*command, *arguments],
            input=typed,
            env={**os.environ, **_ENVIRONMENT, **{f"TF_OFFLINE_{name}": value for name, value in cloud.items()}},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )


def copy_checkout(to: Path) -> Path:
    """Copy the files that Terraform reads. The empty ``.git`` marks the copy as a separate checkout."""
    # Other processes write bytecode meanwhile, and rename each file at the end.
    leave = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "*.pyc.*")
    for folder in ("infra", "functions"):
        shutil.copytree(REPOSITORY / folder, to / folder, ignore=leave)
    shutil.copytree(REPOSITORY / "docs/operations", to / "docs/operations")
    (to / ".git").mkdir()
    return to


def find_terraform(checkout: Path) -> Terraform | str:
    """Return Terraform on a copy of the checkout, or the reason why it cannot run."""
    if shutil.which("terraform") is None:
        return "there is no terraform on the PATH"
    real = Terraform(checkout, "")
    if real.run(ROOT, "init", "-backend=false", "-input=false").returncode == 0:
        return real
    folder = os.environ.get("TERRAFORM_OFFLINE")
    if not folder:
        return "the providers cannot be installed, and TERRAFORM_OFFLINE names no folder with stand-ins"
    return Terraform(checkout, str(Path(folder) / "tf-offline"))


@dataclass(frozen=True)
class Resource:
    """A managed resource of a state or a plan, with its values."""

    address: str
    type: str
    values: dict[str, Any]


def resources(state: str) -> list[Resource]:
    """Return all managed resources out of a state file, those of modules included."""
    return [
        Resource(_address(item, instance), item["type"], instance["attributes"])
        for item in json.loads(state)["resources"]
        if item["mode"] == "managed"
        for instance in item["instances"]
    ]


def _address(item: dict[str, Any], instance: dict[str, Any]) -> str:
    key = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
    return ".".join(part for part in (item.get("module"), item["type"], item["name"] + key) if part)


def outputs(state: str) -> dict[str, Any]:
    """Return name → value of the root module's outputs out of a state file."""
    return {name: output["value"] for name, output in json.loads(state)["outputs"].items()}


def changes(planned: str) -> dict[str, str]:
    """Return address → action of every managed resource that a plan (``plan -json``) would change."""
    lines = (json.loads(line) for line in planned.splitlines())
    planned_changes = (line["change"] for line in lines if line["type"] == "planned_change")
    return {change["resource"]["addr"]: change["action"] for change in planned_changes if change["action"] != "read"}


def reminders(shown: dict[str, Any]) -> dict[str, str]:
    """Return address → next_rotation_time of every secret as a plan (``show -json PLAN``) leaves it."""
    return {
        change["address"]: change["change"]["after"]["rotation"][0]["next_rotation_time"]
        for change in shown["resource_changes"]
        if change["type"] == "google_secret_manager_secret"
    }


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed.

    Raises:
        AssertionError: the command failed. The message has its output.
    """
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
