output "account" {
  description = "E-mail of the created account of the builds, or null."
  value       = one(google_service_account.steps[*].email)
}

output "grants" {
  description = "The scheduler's role on the project, and the accounts that it may act as."
  value = concat(
    [google_project_iam_member.scheduler.role],
    google_service_account_iam_member.scheduler_acts_as_steps[*].service_account_id,
    values(google_service_account_iam_member.scheduler_acts_as)[*].service_account_id,
  )
}

output "project_id" {
  description = "The project, known when its APIs answer."
  value       = local.project_id
}

output "topic" {
  description = "Full name of the topic that Cloud Build publishes to."
  value       = var.create_topic ? google_pubsub_topic.cloud_builds[0].id : "projects/${local.project_id}/topics/${local.topic}"
}
