# A push subscription to a topic that another part or another project owns, with its dead letters.
# The module push_topic makes the same for a topic that belongs to it. Its resources keep their addresses there.

locals {
  # With these pauses, twenty attempts take about two hours.
  minimum_backoff       = "1s"
  maximum_backoff       = "600s"
  max_delivery_attempts = 20
  week                  = "604800s"
  month                 = "2678400s"
}

resource "google_pubsub_subscription" "push" {
  project                    = var.project_id
  name                       = var.name
  topic                      = var.topic
  filter                     = var.filter
  ack_deadline_seconds       = var.ack_deadline_seconds
  message_retention_duration = local.week
  labels                     = var.labels

  push_config {
    push_endpoint = "${var.url}/${var.topic}"

    oidc_token {
      service_account_email = var.push_account
      # Cloud Run accepts the service's address, without a path.
      audience = var.url
    }
  }

  retry_policy {
    minimum_backoff = local.minimum_backoff
    maximum_backoff = local.maximum_backoff
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letter.id
    max_delivery_attempts = local.max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic" "dead_letter" {
  project                    = var.project_id
  name                       = "${var.name}-dead-letter"
  kms_key_name               = var.kms_key
  message_retention_duration = local.month
  labels                     = var.labels
}

# A dead-letter topic without a subscription drops its messages.
resource "google_pubsub_subscription" "dead_letter" {
  project                    = var.project_id
  name                       = google_pubsub_topic.dead_letter.name
  topic                      = google_pubsub_topic.dead_letter.id
  ack_deadline_seconds       = 60
  message_retention_duration = local.week
  labels                     = var.labels

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub moves dead letters: it publishes them to the topic and acknowledges them on the subscription.
resource "google_pubsub_topic_iam_member" "dead_letter" {
  project = var.project_id
  topic   = google_pubsub_topic.dead_letter.name
  role    = "roles/pubsub.publisher"
  member  = var.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letter" {
  project      = var.project_id
  subscription = google_pubsub_subscription.push.name
  role         = "roles/pubsub.subscriber"
  member       = var.pubsub_agent
}
