"""Rotations of a signing secret, applied with the module alone."""

import re
from pathlib import Path
from subprocess import CompletedProcess

from tests.terraform.tool import Terraform

FOLDER = Path("infra/terraform/rotation")
SECRET = """
variable "generation" { type = number }

resource "google_pubsub_topic" "reminders" {
  project = "my-project"
  name    = "reminders"
}

module "secret" {
  source         = "../modules/signing_secret"
  project_id     = "my-project"
  region         = "us-central1"
  name           = "luci-scheduler-functions"
  reader         = "serviceAccount:functions@my-project.iam.gserviceaccount.com"
  generation     = var.generation
  next           = true
  rotation_days  = 90
  reminder_topic = google_pubsub_topic.reminders.id
  kms_key        = null
  labels         = {}
}
"""
"""A configuration with the module alone: an apply takes two seconds."""
GENERATIONS = range(1, 6)


def rotate(terraform: Terraform) -> dict[int, CompletedProcess[str]]:
    """Apply each generation in turn. Return generation → the apply."""
    (terraform.checkout / FOLDER).mkdir()
    (terraform.checkout / FOLDER / "main.tf").write_text(SECRET, encoding="utf-8")
    applied = {}
    for generation in GENERATIONS:
        option = f"-var=generation={generation}"
        applied[generation] = terraform.run(FOLDER, "apply", "-auto-approve", option, SERVICES="off")
    return applied


def read(generation: int) -> set[int]:
    """Return the generations whose keys a revision reads. The module's output `versions` has the same rule."""
    return {number for number in (generation - 1, generation, generation + 1) if number > 0}


def keys(done: CompletedProcess[str], what: str) -> set[int]:
    """Return the generations of the keys about which an apply said ``what``."""
    return {int(number) for number in re.findall(rf'secret_version\.key\["(\d+)"\]: {what}', done.stdout)}
