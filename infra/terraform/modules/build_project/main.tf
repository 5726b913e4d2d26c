# A project in which jobs run builds of Cloud Build: the scheduler's rights there, the builds' account, and the topic.

locals {
  apis = toset(var.enable_apis ? ["cloudbuild.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com", "pubsub.googleapis.com"] : [])
  # Equals the variable. Resources that use this local wait until the APIs answer.
  project_id = var.enable_apis ? one(distinct(values(time_sleep.apis_known[0].triggers))) : var.project_id
  # Cloud Build publishes to a topic of this name, and to no other.
  topic = "cloud-builds"
}

resource "google_project_service" "this" {
  for_each = local.apis

  project = var.project_id
  service = each.value
  # Other systems in the project may use the APIs.
  disable_on_destroy = false
}

# An API that was just enabled refuses requests until every server of Google knows it.
resource "time_sleep" "apis_known" {
  count = var.enable_apis ? 1 : 0

  create_duration = "60s"
  triggers        = { for api, service in google_project_service.this : api => service.project }
}

# The four permissions of the scheduler. The closest role of Google, roles/cloudbuild.builds.editor, has more.
resource "google_project_iam_custom_role" "builds" {
  count = var.role == null ? 1 : 0

  project     = local.project_id
  role_id     = "${replace(var.prefix, "-", "_")}luci_scheduler_builds"
  title       = "LUCI Scheduler: builds"
  description = "Create, get, list and cancel builds of Cloud Build."
  permissions = ["cloudbuild.builds.create", "cloudbuild.builds.get", "cloudbuild.builds.list", "cloudbuild.builds.update"]
}

resource "google_project_iam_member" "scheduler" {
  project = local.project_id
  role    = var.role == null ? google_project_iam_custom_role.builds[0].name : var.role
  member  = var.scheduler

  # The functions use the old grant until they have changed. The same is true of the accounts below.
  lifecycle {
    create_before_destroy = true
  }
}

# Builds run foreign code, so their account has no right of the scheduler's.
resource "google_service_account" "steps" {
  count = var.create_account ? 1 : 0

  project      = local.project_id
  account_id   = "${var.prefix}sched-steps"
  display_name = "LUCI Scheduler steps"
  description  = "Account that runs the steps of builds."
}

# The role for writing logs exists only on projects.
resource "google_project_iam_member" "logs" {
  count = var.create_account ? 1 : 0

  project = local.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.steps[0].member
}

# The scheduler may name these accounts in its requests, and no other.
resource "google_service_account_iam_member" "scheduler_acts_as_steps" {
  count = var.create_account ? 1 : 0

  service_account_id = google_service_account.steps[0].name
  role               = "roles/iam.serviceAccountUser"
  member             = var.scheduler

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_service_account_iam_member" "scheduler_acts_as" {
  for_each = var.accounts

  # The address of an account ends with its project.
  service_account_id = "projects/${split(".", split("@", each.value)[1])[0]}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = var.scheduler

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_pubsub_topic" "cloud_builds" {
  count = var.create_topic ? 1 : 0

  project      = local.project_id
  name         = local.topic
  kms_key_name = var.kms_key
  labels       = var.labels
}

# A service agent is created at its first use. Google refuses a grant to an agent that does not exist yet.
resource "google_project_service_identity" "cloud_build" {
  provider = google-beta
  count    = var.create_topic ? 1 : 0

  project = local.project_id
  service = "cloudbuild.googleapis.com"
}

# The agent's own role permits this, too, unless an administrator has taken that role away.
resource "google_pubsub_topic_iam_member" "publisher" {
  count = var.create_topic ? 1 : 0

  project = local.project_id
  topic   = google_pubsub_topic.cloud_builds[0].name
  role    = "roles/pubsub.publisher"
  member  = google_project_service_identity.cloud_build[0].member
}
