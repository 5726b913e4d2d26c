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
  mock_resource "google_compute_backend_service" {
    defaults = { generated_id = "987", name = "mock-backend" }
  }
  mock_data "google_cloud_run_v2_service" {
    defaults = { template = [{ containers = [{ image = "us-central1-docker.pkg.dev/my-project/luci-scheduler/built:version_1" }] }] }
  }
  mock_data "google_artifact_registry_docker_image" {
    defaults = { self_link = "us-central1-docker.pkg.dev/my-project/luci-scheduler/built@sha256:0123" }
  }
}

mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:service-1@gcp-sa-mock.iam.gserviceaccount.com" }
  }
  mock_resource "google_cloud_run_v2_service" {
    defaults = { latest_ready_revision = "projects/my-project/locations/us-central1/services/mock/revisions/mock-00001-abc" }
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

run "defaults_behind_identity_aware_proxy" {
  variables {
    console = {
      members              = ["group:builders@example.com"]
      admins               = ["user:me@example.com", "serviceAccount:bot@my-project.iam.gserviceaccount.com"]
      programmatic_clients = ["1-a.apps.googleusercontent.com"]
    }
  }

  assert {
    condition     = [for name, function in local.functions : name if function.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"] == ["on_build_completion", "on_gitiles_commit", "on_task"]
    error_message = "Only the console may be reached from other networks."
  }
  assert {
    condition     = alltrue([for name in ["on_gitiles_commit", "on_build_completion"] : local.functions[name].invokers == [google_service_account.this["push"].member]])
    error_message = "Only Pub/Sub's account may call the event functions."
  }
  assert {
    condition     = local.functions.on_task.invokers == [google_service_account.this["tasks"].member, google_service_account.this["cron"].member]
    error_message = "Only Cloud Tasks' and Cloud Scheduler's accounts may call on_task."
  }
  assert {
    condition     = alltrue([for name in ["on_gitiles_commit", "on_build_completion"] : local.functions[name].environment == { SCHEDULER_TRUST_FRONT_END = "true", SCHEDULER_PUSH_ACCOUNT = google_service_account.this["push"].email, SCHEDULER_PUSH_AUDIENCE = local.urls[name] }])
    error_message = "An event function expects the push account's token for its own address."
  }
  assert {
    condition     = output.image == "us-central1-docker.pkg.dev/my-project/luci-scheduler/built@sha256:0123"
    error_message = "The functions run the built image, by digest."
  }
  assert {
    condition     = output.revisions == { for name in ["on_gitiles_commit", "on_build_completion", "on_task", "console"] : name => "mock-00001-abc" }
    error_message = "The output has the short name of each function's latest revision."
  }

  assert {
    condition     = local.front_end.iap_enabled && !local.front_end.invoker_iam_disabled && local.functions.console.ingress == "INGRESS_TRAFFIC_ALL"
    error_message = "Identity-Aware Proxy stands in front of the service itself."
  }
  assert {
    condition     = length(local.functions.console.invokers) == 1 && keys(google_project_service_identity.this) == ["iap.googleapis.com", "pubsub.googleapis.com", "secretmanager.googleapis.com"]
    error_message = "Only the proxy calls the console."
  }
  assert {
    condition     = google_iap_web_cloud_run_service_iam_binding.users[0].members == toset(["group:builders@example.com", "user:me@example.com", "serviceAccount:bot@my-project.iam.gserviceaccount.com"])
    error_message = "The proxy lets members and administrators pass."
  }
  assert {
    condition = jsonencode(local.functions.console.environment) == jsonencode({
      SCHEDULER_ACCESS            = jsonencode({ version = 1, admins = ["user:bot@my-project.iam.gserviceaccount.com", "user:me@example.com"] })
      SCHEDULER_CONSOLE_AUDIENCES = "https://luci-scheduler-console-123456789012.us-central1.run.app"
      SCHEDULER_IAP_AUDIENCE      = "/projects/123456789012/locations/us-central1/services/luci-scheduler-console"
    })
    error_message = "The console trusts the proxy's assertions only, and the administrators make the access policy."
  }
  assert {
    condition     = google_iap_settings.console[0].name == "projects/123456789012/iap_web/cloud_run-us-central1/services/luci-scheduler-console"
    error_message = "The settings are those of the Cloud Run service."
  }
  assert {
    condition     = output.open_console == "echo https://luci-scheduler-console-123456789012.us-central1.run.app" && output.sign_in == "luci-scheduler login --url https://luci-scheduler-console-123456789012.us-central1.run.app --client CLIENT.json"
    error_message = "The commands fit the front end."
  }

  assert {
    condition     = toset([for name, function in local.functions : function.account if name != "console"]) == toset(["functions"])
    error_message = "Buildbucket recognizes a repeated request by its caller, so one account launches all builds."
  }
  assert {
    condition     = local.functions.console.account == "console"
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
    condition     = !contains(local.apis, "compute.googleapis.com") && !contains(local.apis, "billingbudgets.googleapis.com") && !contains(local.apis, "cloudkms.googleapis.com") && !contains(local.apis, "vpcaccess.googleapis.com")
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
  assert {
    condition     = time_sleep.apis_known.create_duration == "60s" && keys(time_sleep.apis_known.triggers) == sort(tolist(local.apis))
    error_message = "Every API has a minute before its first use."
  }
}

run "optional_features_are_on" {
  command = plan

  variables {
    prefix = "blue"
    console = {
      front_end            = "load_balancer"
      domain               = "scheduler.example.com"
      members              = ["group:builders@example.com"]
      programmatic_clients = ["1-a.apps.googleusercontent.com"]
    }
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
    condition     = local.front_end.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" && length(local.front_end.invokers) == 1 && !local.front_end.iap_enabled && !local.front_end.invoker_iam_disabled
    error_message = "Behind a load balancer, only IAP calls the console."
  }
  assert {
    condition     = google_iap_settings.console[0].name == "projects/123456789012/iap_web/compute/services/blue-luci-scheduler-console"
    error_message = "The settings are those of the load balancer's backend."
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

run "cloud_run_itself_checks_callers" {
  command = plan

  variables {
    console     = { front_end = "proxy", members = ["group:builders@example.com"], admins = ["user:me@example.com"], access = "{}" }
    cloud_build = { projects = { my-project = { accounts = [], create_topic = false } } }
  }

  assert {
    condition     = !local.front_end.iap_enabled && !local.front_end.invoker_iam_disabled && local.functions.console.ingress == "INGRESS_TRAFFIC_ALL"
    error_message = "Cloud Run's own check is the front end."
  }
  assert {
    condition     = local.functions.console.invokers == toset(["group:builders@example.com", "user:me@example.com"]) && length(google_iap_web_cloud_run_service_iam_binding.users) == 0
    error_message = "Members and administrators call the console."
  }
  assert {
    condition = jsonencode(local.functions.console.environment) == jsonencode({
      SCHEDULER_TRUST_FRONT_END   = "true"
      SCHEDULER_ACCESS            = "{}"
      SCHEDULER_CONSOLE_AUDIENCES = "https://luci-scheduler-console-123456789012.us-central1.run.app,32555940559.apps.googleusercontent.com"
    })
    error_message = "The console accepts gcloud's tokens that Cloud Run has checked, and the given policy wins."
  }
  assert {
    condition     = output.open_console == "gcloud run services proxy luci-scheduler-console --project=my-project --region=us-central1" && output.sign_in == "luci-scheduler login --url https://luci-scheduler-console-123456789012.us-central1.run.app" && !contains(local.apis, "iap.googleapis.com")
    error_message = "The commands fit the front end."
  }
  assert {
    condition     = !local.build_projects["my-project"].create_topic && local.cloud_build_environment.SCHEDULER_CLOUD_BUILD_PROJECTS != null
    error_message = "The topic of the default project exists if either member says so."
  }
}

run "a_public_console_promotes_an_image_without_notifications" {
  command = plan

  variables {
    console = { front_end = "public" }
    image   = { build = false, reference = "us-central1-docker.pkg.dev/staging/luci-scheduler/built@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
    canary  = { percent = 0, stable = { on_task = "luci-scheduler-on-task-00001-abc" } }
    buildbucket_servers = [
      { host = "one.example.com", publisher = "someone@example.com" },
      { host = "two.example.com", publisher = "other@example.com", notifications = false },
    ]
  }

  assert {
    condition     = local.front_end.invoker_iam_disabled && length(local.functions.console.invokers) == 0 && !contains(keys(local.functions.console.environment), "SCHEDULER_TRUST_FRONT_END")
    error_message = "Without a check by the platform, a token without a signature is not trusted."
  }
  assert {
    condition     = endswith(output.sign_in, ".run.app --service-account EMAIL")
    error_message = "gcloud's identity tokens are for another audience, so a person impersonates a service account."
  }
  assert {
    condition     = output.image == var.image.reference && !contains(keys(google_service_account.this), "build")
    error_message = "Nothing is built, and no account builds."
  }
  assert {
    condition     = length(setintersection(local.apis, ["cloudbuild.googleapis.com", "cloudfunctions.googleapis.com"])) == 0
    error_message = "The APIs of the build stay disabled."
  }
  assert {
    condition     = keys(module.topic) == ["commits", "someone@example.com"]
    error_message = "A publisher without notifications has no topic, grants and subscription."
  }
  assert {
    condition = jsondecode(local.environment.SCHEDULER_BUILDBUCKET_SERVERS) == [
      { host = "one.example.com", publisher = "someone@example.com", protocol = "v2", topic = "projects/my-project/topics/scheduler.buildbucket.someone~example.com" },
      { host = "two.example.com", publisher = "other@example.com", protocol = "v2", notifications = false },
    ]
    error_message = "The functions know that a server sends no notifications."
  }
}
