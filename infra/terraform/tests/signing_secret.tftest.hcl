# Rotation: a new generation adds a new key and keeps the previous one.

mock_provider "google" {
  mock_resource "google_secret_manager_secret" {
    defaults = { id = "projects/my-project/secrets/mock" }
  }
}

mock_provider "random" {}

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
    condition     = keys(random_password.key) == ["1"] && random_password.key["1"].length >= 32
    error_message = "The first generation has one key."
  }
  assert {
    condition     = google_secret_manager_secret_version.this.secret_data == random_password.key["1"].result
    error_message = "The secret is the key."
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

  assert {
    condition     = google_secret_manager_secret_version.this.secret_data == "${random_password.key["10"].result}\n${random_password.key["9"].result}"
    error_message = "The newest key comes first, and only the previous key still verifies."
  }
}
