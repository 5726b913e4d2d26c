output "console_url" {
  description = "Address of the console. Behind IAP, the domain's A record must name `console_ip_address`."
  value       = var.console.iap == null ? local.urls.console : "https://${var.console.iap.domain}"
}

output "console_ip_address" {
  description = "IP address for the A record of the console's domain, or null without IAP."
  value       = one(module.console_iap[*].address)
}

output "open_console" {
  description = "Command that opens the console on this machine, for members of the console."
  value       = var.console.iap == null ? "gcloud run services proxy ${module.function["console"].name} --project=${var.project_id} --region=${var.region}" : "open https://${var.console.iap.domain}"
}

output "commit_topic" {
  description = "Topic for commit events."
  value       = module.topic["commits"].topic
}

output "publish_first_commit" {
  description = "Command that sends a first commit. Insert a repository, a ref and a revision that a job watches."
  value       = "gcloud pubsub topics publish ${local.commit_topic} --project=${var.project_id} --message='{\"repo\": \"https://HOST.googlesource.com/REPO\", \"ref\": \"refs/heads/main\", \"revision\": \"FULL_SHA1\"}'"
}

output "grant_in_luci" {
  description = "Account that starts builds. Terraform cannot make this grant: in LUCI, grant it `role/buildbucket.triggerer` and `role/buildbucket.reader` in every bucket that jobs name."
  value       = google_service_account.this["functions"].email
}

output "notification_topics" {
  description = "Topics that Buildbucket publishes to, by publisher."
  value       = { for publisher in keys(local.publisher_topics) : publisher => module.topic[publisher].topic }
}

output "dead_letter_subscriptions" {
  description = "Subscriptions that hold refused messages for an operator."
  value       = sort([for topic in module.topic : topic.dead_letter_subscription])
}

output "database" {
  description = "Name of the Firestore database."
  value       = module.database.name
}

output "sync_configs" {
  description = "Command that reads the configs now."
  value       = "gcloud scheduler jobs run ${local.prefix}luci-scheduler-sync --project=${var.project_id} --location=${var.region}"
}
