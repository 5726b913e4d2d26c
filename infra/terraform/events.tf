# The topic that announces starts and ends of invocations. Its readers make subscriptions of their own.

resource "google_pubsub_topic" "events" {
  count = var.invocation_events.enabled ? 1 : 0

  project      = local.project_id
  name         = "${local.prefix}invocation-events"
  kms_key_name = local.kms_key
  labels       = var.labels
}

# Only on_task publishes, and it shares its account with the event functions.
resource "google_pubsub_topic_iam_member" "events_publisher" {
  count = var.invocation_events.enabled ? 1 : 0

  project = local.project_id
  topic   = google_pubsub_topic.events[0].name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.this["functions"].member
}

# They may attach subscriptions of their own projects.
resource "google_pubsub_topic_iam_member" "events_subscriber" {
  for_each = var.invocation_events.enabled ? var.invocation_events.subscribers : []

  project = local.project_id
  topic   = google_pubsub_topic.events[0].name
  role    = "roles/pubsub.subscriber"
  member  = each.value
}
