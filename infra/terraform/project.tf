# APIs, the project's number, and the service agents that other files grant something to.

locals {
  # Put before every name, so that installations live in one project side by side.
  prefix = var.prefix == "" ? "" : "${var.prefix}-"

  apis = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudfunctions.googleapis.com",
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
    var.console.iap == null ? [] : ["compute.googleapis.com", "iap.googleapis.com"],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
    var.kms_key == null ? [] : ["cloudkms.googleapis.com"],
    var.vpc_connector == null ? [] : ["compute.googleapis.com", "vpcaccess.googleapis.com"],
  ))

  # The same text as the variable; whatever is made in it waits until the APIs are on.
  project_id = distinct([for service in google_project_service.this : service.project])[0]
  # The same again, but not known before the APIs are on: for what is looked up in the project.
  project_looked_up = split("/", google_project_service.this["cloudresourcemanager.googleapis.com"].id)[0]

  agents = toset(concat(
    ["pubsub.googleapis.com", "secretmanager.googleapis.com"],
    var.console.iap == null ? [] : ["iap.googleapis.com"],
    var.kms_key == null ? [] : ["artifactregistry.googleapis.com", "cloudfunctions.googleapis.com", "firestore.googleapis.com", "run.googleapis.com"],
  ))
}

resource "google_project_service" "this" {
  for_each = local.apis

  project = var.project_id
  service = each.value
  # Something else in the project may use them, another installation for one.
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = local.project_looked_up
}

# Service agents come into being with their first use; a grant to one that does not exist yet is refused.
resource "google_project_service_identity" "this" {
  provider = google-beta
  for_each = local.agents

  project = local.project_id
  service = each.value
}
