"""Rotations of a signing secret, applied with the module alone."""

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
