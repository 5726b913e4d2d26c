# One function with mocked providers: traffic, environment, invokers.

mock_provider "google" {}

mock_provider "google-beta" {
  mock_resource "google_cloud_run_v2_service" {
    defaults = { latest_ready_revision = "projects/p/locations/l/services/s/revisions/s-00007-xyz" }
  }
}

variables {
  project_id      = "my-project"
  region          = "us-central1"
  name            = "luci-scheduler-on-task"
  entry_point     = "on_task"
  image           = "us-central1-docker.pkg.dev/p/r/n@sha256:0123"
  account         = { email = "runs@my-project.iam.gserviceaccount.com", member = "serviceAccount:runs@my-project.iam.gserviceaccount.com" }
  invokers        = ["serviceAccount:tasks@my-project.iam.gserviceaccount.com"]
  ingress         = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  timeout_seconds = 630
  size            = { cpu = "1", memory = "512Mi", concurrency = 16, max_instances = 7 }
  environment     = { SCHEDULER_PROJECT = "my-project" }
  secrets         = { SCHEDULER_TOKEN_SECRETS = { name = "keys", version = "3" } }
  vpc_connector   = null
  kms_key         = null
  labels          = {}
}

run "latest" {
  module {
    source = "./modules/function"
  }

  assert {
    condition     = [for share in google_cloud_run_v2_service.this.traffic : "${share.type} ${share.percent}"] == ["TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST 100"]
    error_message = "Without a canary the latest revision has all traffic, and the block says so: a missing block keeps an earlier split."
  }
  assert {
    condition = { for variable in google_cloud_run_v2_service.this.template[0].containers[0].env : variable.name => length(variable.value_source) == 0 ? variable.value : "${one(one(variable.value_source).secret_key_ref).secret} ${one(one(variable.value_source).secret_key_ref).version}" } == {
      CLOUD_RUN_TIMEOUT_SECONDS = "630"
      FUNCTION_TARGET           = "on_task"
      LOG_EXECUTION_ID          = "true"
      SCHEDULER_PROJECT         = "my-project"
      SCHEDULER_TOKEN_SECRETS   = "keys 3"
      THREADS                   = "16"
    }
    error_message = "The environment holds the settings, the secret's version, and what the functions framework reads."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_binding.invokers.members == toset(var.invokers) && google_cloud_run_v2_service_iam_binding.invokers.role == "roles/run.invoker"
    error_message = "The list of invokers is complete, so any other invoker is removed."
  }
  assert {
    condition     = output.revision == "s-00007-xyz"
    error_message = "The output is a name that the variable canary accepts."
  }
}

run "canary" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    canary = { percent = 10, stable = { on_task = "luci-scheduler-on-task-00003-abc" } }
  }

  assert {
    condition = [for share in google_cloud_run_v2_service.this.traffic : "${share.type} ${coalesce(share.revision, "-")} ${share.percent}"] == [
      "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION luci-scheduler-on-task-00003-abc 90",
      "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST - 10",
    ]
    error_message = "The latest revision has the given share."
  }
}

run "rollback" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    canary = { percent = 0, stable = { on_task = "luci-scheduler-on-task-00003-abc" } }
  }

  assert {
    condition     = [for share in google_cloud_run_v2_service.this.traffic : "${share.type} ${share.revision} ${share.percent}"] == ["TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION luci-scheduler-on-task-00003-abc 100"]
    error_message = "The stable revision has all traffic."
  }
}

run "another_function_is_stable" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    canary = { percent = 0, stable = { console = "luci-scheduler-console-00003-abc" } }
  }

  assert {
    condition     = [for share in google_cloud_run_v2_service.this.traffic : "${share.type} ${share.percent}"] == ["TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST 100"]
    error_message = "A function without a stable revision has no canary."
  }
}
