# Each account has a separate signing secret, so the console cannot sign notification tokens.

module "signing_secret" {
  source   = "./modules/signing_secret"
  for_each = toset(["functions", "console"])

  project_id = local.project_id
  region     = var.region
  name       = "${local.prefix}luci-scheduler-${each.value}"
  reader     = google_service_account.this[each.value].member
  generation = var.signing_key_generation
  # Only the functions verify what other revisions sign. The console verifies forms of its own pages.
  next           = each.value == "functions"
  rotation_days  = var.signing_key_rotation_days
  reminder_topic = google_pubsub_topic.rotation.id
  kms_key        = local.kms_key
  labels         = var.labels

  depends_on = [time_sleep.publisher_known]
}

# Google refuses a secret with a topic until the publisher's grant has spread, which takes a minute or two.
resource "time_sleep" "publisher_known" {
  create_duration = "120s"
  triggers        = { topic = google_pubsub_topic_iam_member.rotation.topic }
}

# Secret Manager publishes here that a key is due. An alert notifies the operators (modules/monitoring).
resource "google_pubsub_topic" "rotation" {
  project      = local.project_id
  name         = "${local.prefix}luci-scheduler-key-rotation"
  kms_key_name = local.kms_key
  labels       = var.labels
}

resource "google_pubsub_topic_iam_member" "rotation" {
  project = local.project_id
  topic   = google_pubsub_topic.rotation.name
  role    = "roles/pubsub.publisher"
  member  = google_project_service_identity.this["secretmanager.googleapis.com"].member
}

resource "google_pubsub_subscription" "rotation" {
  project = local.project_id
  name    = google_pubsub_topic.rotation.name
  topic   = google_pubsub_topic.rotation.id
  # Secret Manager reports every change of a secret.
  filter               = "attributes.eventType = \"SECRET_ROTATE\""
  ack_deadline_seconds = 60
  # The maximum of Pub/Sub, 31 days. The alert ends with the message.
  message_retention_duration = "2678400s"
  labels                     = var.labels

  expiration_policy {
    ttl = ""
  }
}
