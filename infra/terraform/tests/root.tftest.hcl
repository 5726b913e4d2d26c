# The whole installation with mocked providers: `terraform init && terraform test` in infra/terraform, no account needed.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { member = "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "mock@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:mock@my-project.iam.gserviceaccount.com"
      name   = "projects/my-project/serviceAccounts/mock@my-project.iam.gserviceaccount.com"
    }
  }
  mock_resource "google_project_service" {
    defaults = { id = "my-project/cloudresourcemanager.googleapis.com" }
  }
  mock_resource "google_pubsub_topic" {
    defaults = { id = "projects/my-project/topics/mock" }
  }
  mock_resource "google_secret_manager_secret" {
    defaults = { id = "projects/my-project/secrets/mock" }
  }
}

mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:service-1@gcp-sa-mock.iam.gserviceaccount.com" }
  }
}

mock_provider "archive" {
  mock_data "archive_file" {
    defaults = { output_sha256 = "0123456789abcdef" }
  }
}

mock_provider "time" {
  mock_resource "time_static" {
    defaults = { rfc3339 = "2026-01-01T00:00:00Z" }
  }
}

variables {
  project_id = "my-project"
  # A protected installation resists the cleanup after the test.
  database = { delete_protection = false }
  configs  = [{ project = "demo", repo = "https://demo.googlesource.com/demo" }]
  buildbucket_servers = [
    { host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" },
    { host = "buildbucket.example.com", publisher = "someone@example.com", protocol = "v1" },
  ]
}

run "defaults" {
  assert {
    condition     = [for name, function in local.functions : name if function.ingress == "ALLOW_INTERNAL_ONLY"] == ["on_build_completion", "on_gitiles_commit", "on_task"]
    error_message = "Only the console may be reached from other networks."
  }
  assert {
    condition     = alltrue([for name in ["on_gitiles_commit", "on_build_completion"] : keys(local.functions[name].invokers) == ["push"]])
    error_message = "Only Pub/Sub's account may call the event functions."
  }
  assert {
    condition     = keys(local.functions.on_task.invokers) == ["cron", "tasks"]
    error_message = "Only Cloud Tasks' and Cloud Scheduler's accounts may call on_task."
  }
  assert {
    condition     = length(local.functions.console.invokers) == 0
    error_message = "By default the console has no members."
  }

  assert {
    condition     = toset([for name, function in local.functions : function.account if name != "console"]) == toset(["functions"])
    error_message = "Buildbucket recognizes a repeated request by its caller, so one account launches all builds."
  }
  assert {
    condition     = local.functions.console.account == "console" && local.functions.console.secret == "console"
    error_message = "The console has its own account and its own secret."
  }

  assert {
    condition     = local.urls.on_task == "https://luci-scheduler-on-task-123456789012.us-central1.run.app"
    error_message = "${local.urls.on_task} is not the address that Cloud Run gives the service."
  }
  assert {
    condition     = local.environment.SCHEDULER_TASK_URL == local.urls.on_task
    error_message = "Tasks go to on_task."
  }
  assert {
    condition     = !contains(keys(local.environment), "SCHEDULER_CONCURRENCY")
    error_message = "A setting without a value has the code's default."
  }
  assert {
    condition     = jsondecode(local.environment.SCHEDULER_CONFIG_SOURCES) == [{ kind = "gitiles", project = "demo", repo = "https://demo.googlesource.com/demo" }] && length(google_storage_bucket_iam_member.configs) == 0
    error_message = "The config sources equal the variable, without omitted members."
  }

  assert {
    condition     = keys(module.topic) == ["commits", "cr-buildbucket@appspot.gserviceaccount.com", "someone@example.com"]
    error_message = "There is a topic for commits and one for each Buildbucket publisher."
  }
  assert {
    condition     = local.topics["someone@example.com"].publishers == ["user:someone@example.com"]
    error_message = "A publisher that is not a service account is a user."
  }
  assert {
    condition     = local.topics["cr-buildbucket@appspot.gserviceaccount.com"].publishers == ["serviceAccount:cr-buildbucket@appspot.gserviceaccount.com"]
    error_message = "A Buildbucket server's account may publish."
  }

  assert {
    condition     = length(module.console_iap) == 0 && length(google_billing_budget.this) == 0 && length(google_kms_crypto_key_iam_member.this) == 0 && length(google_vpc_access_connector.this) == 0
    error_message = "Optional resources are not created by default."
  }
  assert {
    condition     = !contains(local.apis, "iap.googleapis.com") && !contains(local.apis, "billingbudgets.googleapis.com") && !contains(local.apis, "cloudkms.googleapis.com") && !contains(local.apis, "vpcaccess.googleapis.com")
    error_message = "Unneeded APIs stay disabled."
  }
  assert {
    condition     = length(module.monitoring) == 1
    error_message = "Alerts are on by default."
  }

  assert {
    condition     = keys(module.signing_secret) == ["console", "functions"]
    error_message = "The console and the functions have separate secrets."
  }
}

run "optional_features_are_on" {
  command = plan

  variables {
    prefix        = "blue"
    console       = { members = ["group:builders@example.com"], iap = { domain = "scheduler.example.com" } }
    budget        = { billing_account = "012345-6789AB-CDEF01", monthly_amount = 20 }
    kms_key       = "projects/my-project/locations/us-central1/keyRings/ring/cryptoKeys/key"
    vpc_connector = { network = "default", ip_cidr_range = "10.8.0.0/28" }
    monitoring    = { enabled = false }
    tuning        = { concurrency = 8 }
    configs       = [{ project = "demo", bucket = "my-configs", object = "demo.cfg" }]
  }

  assert {
    condition     = length(module.console_iap) == 1 && length(google_billing_budget.this) == 1 && length(google_kms_crypto_key_iam_member.this) == 7 && length(google_vpc_access_connector.this) == 1
    error_message = "Requested optional resources are created."
  }
  assert {
    condition     = length(module.monitoring) == 0
    error_message = "Alerts can be turned off."
  }
  assert {
    condition     = local.functions.console.ingress == "ALLOW_INTERNAL_AND_GCLB" && keys(local.functions.console.invokers) == ["iap"]
    error_message = "Behind IAP, only IAP calls the console, through the load balancer."
  }
  assert {
    condition     = local.commit_topic == "blue-gitiles-commit" && alltrue([for name in values(local.names) : startswith(name, "blue-")])
    error_message = "The prefix precedes every name."
  }
  assert {
    condition     = local.environment.SCHEDULER_CONCURRENCY == "8"
    error_message = "A tuned setting reaches the functions."
  }
  assert {
    condition     = keys(google_storage_bucket_iam_member.configs) == ["my-configs"]
    error_message = "The functions may read a bucket with configs."
  }
  assert {
    condition     = output.console_url == "https://scheduler.example.com" && local.environment.SCHEDULER_HOSTNAME == "scheduler.example.com"
    error_message = "The console uses its domain."
  }
}

run "wrong_names_are_refused" {
  command = plan

  variables {
    project_id = "My Project"
    prefix     = "google"
    labels     = { Team = "x" }
  }

  expect_failures = [var.project_id, var.prefix, var.labels]
}
