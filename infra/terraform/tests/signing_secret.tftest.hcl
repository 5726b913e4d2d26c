# Rotation: the next key exists before it signs, and a new generation keeps every version that earlier revisions read.

mock_provider "google" {
  mock_resource "google_secret_manager_secret" {
    defaults = { id = "projects/my-project/secrets/mock" }
  }
}

mock_provider "time" {
  mock_resource "time_static" {
    defaults = { rfc3339 = "2026-01-01T00:00:00Z" }
  }
}

variables {
  project_id     = "my-project"
  region         = "us-central1"
  name           = "luci-scheduler-functions"
  reader         = "serviceAccount:functions@my-project.iam.gserviceaccount.com"
  generation     = 1
  next           = true
  rotation_days  = 90
  reminder_topic = "projects/my-project/topics/rotation"
  kms_key        = null
  labels         = {}
}

run "first_key" {
  module {
    source = "./modules/signing_secret"
  }

  assert {
    condition     = keys(google_secret_manager_secret_version.key) == ["1", "2"]
    error_message = "The first generation has its key and the next one."
  }
  assert {
    condition     = keys(output.versions) == ["current", "next"]
    error_message = "There is no previous key."
  }
  assert {
    condition     = alltrue([for number, version in google_secret_manager_secret_version.key : version.secret_data == null && tostring(version.secret_data_wo_version) == number])
    error_message = "Keys are write-only, and each is sent once."
  }
  assert {
    condition     = google_secret_manager_secret.this.rotation[0].next_rotation_time == "2026-04-01T00:00:00Z"
    error_message = "A key is due after the given number of days."
  }
}

run "tenth_key" {
  module {
    source = "./modules/signing_secret"
  }

  variables {
    generation = 10
  }

  override_resource {
    target = google_secret_manager_secret_version.key["9"]
    values = { version = "nine" }
  }
  override_resource {
    target = google_secret_manager_secret_version.key["10"]
    values = { version = "ten" }
  }
  override_resource {
    target = google_secret_manager_secret_version.key["11"]
    values = { version = "eleven" }
  }

  assert {
    condition     = output.versions == { current = "ten", next = "eleven", previous = "nine" }
    error_message = "The generation's key signs, and its neighbors verify."
  }
  assert {
    condition     = toset(keys(google_secret_manager_secret_version.key)) == toset(["8", "9", "10", "11"])
    error_message = "The version that revisions of the previous generation read stays."
  }
}

run "keys_of_one_service" {
  command = plan

  module {
    source = "./modules/signing_secret"
  }

  variables {
    generation = 10
    next       = false
  }

  assert {
    condition     = toset(keys(google_secret_manager_secret_version.key)) == toset(["8", "9", "10"]) && toset(keys(output.versions)) == toset(["current", "previous"])
    error_message = "Without a next key there is one version less."
  }
}
