# A topic whose messages are pushed to a function; what the function refuses too often is kept for people.

locals {
  endpoint = "${var.url}/projects/${var.project_id}/topics/${var.name}"
  # With these pauses twenty attempts last about two and a half hours.
  minimum_backoff       = "1s"
  maximum_backoff       = "600s"
  max_delivery_attempts = 20
  week                  = "604800s"
  month                 = "2678400s"
}

resource "google_pubsub_topic" "this" {
  project      = var.project_id
  name         = var.name
  kms_key_name = var.kms_key
  labels       = var.labels
}

# A publisher looks whether the topic exists before it relies on it: Buildbucket does.
resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = { for pair in setproduct(var.publishers, ["publisher", "viewer"]) : "${pair[1]} ${pair[0]}" => pair }

  project = var.project_id
  topic   = google_pubsub_topic.this.name
  role    = "roles/pubsub.${each.value[1]}"
  member  = each.value[0]
}

resource "google_pubsub_subscription" "push" {
  project                    = var.project_id
  name                       = var.name
  topic                      = google_pubsub_topic.this.id
  ack_deadline_seconds       = var.ack_deadline_seconds
  message_retention_duration = local.week
  labels                     = var.labels

  push_config {
    push_endpoint = local.endpoint

    oidc_token {
      service_account_email = var.push_account
      # Cloud Run takes its service's address, not that of a path.
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

# Without a subscription of its own a dead-letter topic drops what it is given.
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

# Pub/Sub itself moves dead letters: it publishes them there and acknowledges them here.
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
