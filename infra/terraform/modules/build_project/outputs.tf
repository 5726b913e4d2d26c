output "account" {
  description = "E-mail of the created account of the builds, or null."
  value       = one(google_service_account.steps[*].email)
}

output "topic" {
  description = "Full name of the topic that Cloud Build publishes to."
  value       = var.create_topic ? google_pubsub_topic.cloud_builds[0].id : "projects/${local.project_id}/topics/${local.topic}"
}
