# One topic: OIDC, dead letters, and retention times.

mock_provider "google" {
  mock_resource "google_pubsub_topic" {
    defaults = { id = "projects/my-project/topics/mock" }
  }
}

run "topic" {
  module {
    source = "./modules/push_topic"
  }

  variables {
    project_id           = "my-project"
    name                 = "gitiles-commit"
    publishers           = ["serviceAccount:ci@my-project.iam.gserviceaccount.com"]
    url                  = "https://commit.example.com"
    push_account         = "push@my-project.iam.gserviceaccount.com"
    ack_deadline_seconds = 300
    pubsub_agent         = "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
    kms_key              = null
    labels               = {}
  }

  assert {
    condition     = google_pubsub_subscription.push.push_config[0].push_endpoint == "https://commit.example.com/projects/my-project/topics/gitiles-commit"
    error_message = "The path contains the topic."
  }
  assert {
    condition     = google_pubsub_subscription.push.push_config[0].oidc_token[0].service_account_email == "push@my-project.iam.gserviceaccount.com" && google_pubsub_subscription.push.push_config[0].oidc_token[0].audience == "https://commit.example.com"
    error_message = "The push account signs a token for the service."
  }
  assert {
    condition     = google_pubsub_subscription.push.dead_letter_policy[0].max_delivery_attempts >= 20 && google_pubsub_subscription.push.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letter.id
    error_message = "A message becomes a dead letter after at least twenty attempts."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letter.topic == google_pubsub_topic.dead_letter.id && length(google_pubsub_subscription.dead_letter.push_config) == 0
    error_message = "A pull subscription keeps the dead letters."
  }
  assert {
    condition     = google_pubsub_subscription.push.expiration_policy[0].ttl == "" && google_pubsub_subscription.dead_letter.expiration_policy[0].ttl == ""
    error_message = "Subscriptions never expire."
  }
  assert {
    condition     = google_pubsub_subscription.push.message_retention_duration == "604800s" && google_pubsub_subscription.push.ack_deadline_seconds == 300
    error_message = "Messages are kept for a week, and the function has its time limit."
  }
  assert {
    condition     = toset([for grant in google_pubsub_topic_iam_member.publisher : grant.role]) == toset(["roles/pubsub.publisher", "roles/pubsub.viewer"])
    error_message = "A publisher may publish to the topic and view it."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.dead_letter.role == "roles/pubsub.publisher" && google_pubsub_subscription_iam_member.dead_letter.role == "roles/pubsub.subscriber"
    error_message = "Pub/Sub may move dead letters."
  }
}
