# One topic: OIDC, dead letters, and what lasts how long.

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
    error_message = "The path tells the function the topic."
  }
  assert {
    condition     = google_pubsub_subscription.push.push_config[0].oidc_token[0].service_account_email == "push@my-project.iam.gserviceaccount.com" && google_pubsub_subscription.push.push_config[0].oidc_token[0].audience == "https://commit.example.com"
    error_message = "Messages are pushed with a token for the service, as the account for pushing."
  }
  assert {
    condition     = google_pubsub_subscription.push.dead_letter_policy[0].max_delivery_attempts >= 20 && google_pubsub_subscription.push.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letter.id
    error_message = "After twenty attempts at the earliest a message is a dead letter."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letter.topic == google_pubsub_topic.dead_letter.id && length(google_pubsub_subscription.dead_letter.push_config) == 0
    error_message = "Dead letters are kept by a subscription that people pull from."
  }
  assert {
    condition     = google_pubsub_subscription.push.expiration_policy[0].ttl == "" && google_pubsub_subscription.dead_letter.expiration_policy[0].ttl == ""
    error_message = "Subscriptions never expire."
  }
  assert {
    condition     = google_pubsub_subscription.push.message_retention_duration == "604800s" && google_pubsub_subscription.push.ack_deadline_seconds == 300
    error_message = "Messages are kept for a week, and the function has the time it was given."
  }
  assert {
    condition     = toset([for grant in google_pubsub_topic_iam_member.publisher : grant.role]) == toset(["roles/pubsub.publisher", "roles/pubsub.viewer"])
    error_message = "A publisher may publish to the topic and get it."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.dead_letter.role == "roles/pubsub.publisher" && google_pubsub_subscription_iam_member.dead_letter.role == "roles/pubsub.subscriber"
    error_message = "Pub/Sub itself may move dead letters."
  }
}
