output "console_url" {
  description = "Where the console is. Behind IAP, the domain's A record must name `console_ip_address`."
  value       = var.console.iap == null ? local.urls.console : "https://${var.console.iap.domain}"
}

output "console_ip_address" {
  description = "What the A record of the console's domain must name; null without IAP."
  value       = one(module.console_iap[*].address)
}

output "open_console" {
  description = "The command that opens the console on this machine, for those who may call it."
  value       = var.console.iap == null ? "gcloud run services proxy ${module.function["console"].name} --project=${var.project_id} --region=${var.region}" : "open https://${var.console.iap.domain}"
}

output "commit_topic" {
  description = "The topic to which commits are published."
  value       = module.topic["commits"].topic
}

output "publish_first_commit" {
  description = "The command that sends a first commit; put in a repository, a ref and a revision that a job watches."
  value       = "gcloud pubsub topics publish ${local.commit_topic} --project=${var.project_id} --message='{\"repo\": \"https://HOST.googlesource.com/REPO\", \"ref\": \"refs/heads/main\", \"revision\": \"FULL_SHA1\"}'"
}

output "grant_in_luci" {
  description = "The account that starts builds. No apply can do this: in LUCI, grant it `role/buildbucket.triggerer` (and `role/buildbucket.reader`) in every bucket that jobs name."
  value       = google_service_account.this["functions"].email
}

output "notification_topics" {
  description = "The topics that Buildbucket publishes to, by publisher."
  value       = { for publisher in keys(local.publisher_topics) : publisher => module.topic[publisher].topic }
}

output "dead_letter_subscriptions" {
  description = "Where refused messages wait for people."
  value       = sort([for topic in module.topic : topic.dead_letter_subscription])
}

output "database" {
  description = "Name of the Firestore database."
  value       = module.database.name
}

output "sync_configs" {
  description = "The command that has the configs read now."
  value       = "gcloud scheduler jobs run ${local.prefix}luci-scheduler-sync --project=${var.project_id} --location=${var.region}"
}
