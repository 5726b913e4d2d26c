# APIs, the project's number, and the service agents that other files grant roles to.

locals {
  # Precedes every name, so that one project can hold several installations.
  prefix = var.prefix == "" ? "" : "${var.prefix}-"

  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "cloudscheduler.googleapis.com",
      "cloudtasks.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
    ],
    var.image.build ? ["cloudbuild.googleapis.com", "cloudfunctions.googleapis.com"] : [],
    # Google counts a call of an API for the project of the caller's account, so the API is enabled there as well.
    var.cloud_build == null ? [] : ["cloudbuild.googleapis.com"],
    try(var.github.actions, null) == null ? [] : ["sts.googleapis.com"],
    local.behind_iap ? ["iap.googleapis.com"] : [],
    var.console.front_end == "load_balancer" ? ["compute.googleapis.com"] : [],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
    var.kms_key == null ? [] : ["cloudkms.googleapis.com"],
    var.vpc_connector == null ? [] : ["compute.googleapis.com", "vpcaccess.googleapis.com"],
  ))

  # Equals the variable. Resources that use this local wait until the APIs answer.
  project_id = distinct(values(time_sleep.apis_known.triggers))[0]
  # Equals the variable, but is unknown until the APIs are enabled. Data sources use it.
  project_looked_up = split("/", google_project_service.this["cloudresourcemanager.googleapis.com"].id)[0]

  # Services that encrypt with a customer-managed key, except Cloud Storage, whose agent needs no request.
  encrypting_services = concat(["artifactregistry", "firestore", "pubsub", "run", "secretmanager"], var.image.build ? ["cloudfunctions"] : [])

  agents = toset(concat(
    ["pubsub.googleapis.com", "secretmanager.googleapis.com"],
    local.behind_iap ? ["iap.googleapis.com"] : [],
    var.kms_key == null ? [] : [for service in local.encrypting_services : "${service}.googleapis.com"],
  ))
}

resource "google_project_service" "this" {
  for_each = local.apis

  project = var.project_id
  service = each.value
  # Other systems in the project may use the APIs, for example another installation.
  disable_on_destroy = false
}

# An API that was just enabled refuses requests until every server of Google knows it.
resource "time_sleep" "apis_known" {
  create_duration = "60s"
  triggers        = { for api, service in google_project_service.this : api => service.project }
}

data "google_project" "this" {
  project_id = local.project_looked_up
}

# A service agent is created at its first use. Google refuses a grant to an agent that does not exist yet.
resource "google_project_service_identity" "this" {
  provider = google-beta
  for_each = local.agents

  project = local.project_id
  service = each.value
}
