output "console_url" {
  description = "Address of the console. With a load balancer, the domain's A record must name `console_ip_address`."
  value       = "https://${local.front_end.host}"
}

output "console_ip_address" {
  description = "IP address for the A record of the console's domain, or null without a load balancer."
  value       = one(module.console_iap[*].address)
}

output "open_console" {
  description = "Command for members: it prints the console's address, or opens the console on this machine."
  value       = local.front_end.open
}

output "sign_in" {
  description = "Command that signs in to the console, for members. Behind Identity-Aware Proxy, CLIENT.json belongs to an OAuth client of type Desktop app that `console.programmatic_clients` lists. A public console accepts whole tokens only, so EMAIL is a service account that the access policy names and you may impersonate."
  value       = "luci-scheduler login --url https://${local.front_end.host}${local.front_end.login}"
}

output "image" {
  description = "Image that the functions run, by digest. Another installation runs the same with `image = { build = false, reference = ... }`."
  value       = module.image.reference
}

output "revisions" {
  description = "Function → its latest revision. Copy them into `canary.stable` before an upgrade."
  value       = { for name, function in module.function : name => function.revision }
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

output "build_account" {
  description = "Account that builds of Cloud Build run as, or null without `cloud_build`. Grant it the roles that the builds' steps need."
  value       = local.build_account
}

output "github_webhook" {
  description = "Address of the webhook for GitHub, or null without `github.webhook`."
  value       = local.webhook == null ? null : "https://${one(module.github_webhook[*].name)}-${data.google_project.this.number}.${var.region}.run.app/github"
}

output "github_actions_provider" {
  description = "Workload identity provider for workflows of GitHub Actions, or null without `github.actions`."
  value       = local.actions == null ? null : "projects/${data.google_project.this.number}/locations/global/workloadIdentityPools/${google_iam_workload_identity_pool.github[0].workload_identity_pool_id}/providers/${google_iam_workload_identity_pool_provider.github[0].workload_identity_pool_provider_id}"
}

output "events_topic" {
  description = "Topic that announces starts and ends of invocations, or null without `invocation_events.enabled`."
  value       = one(google_pubsub_topic.events[*].id)
}

output "dead_letter_subscriptions" {
  description = "Subscriptions that hold refused messages for an operator."
  value       = sort(concat(values(module.topic)[*].dead_letter_subscription, values(module.build_notifications)[*].dead_letter_subscription))
}

output "database" {
  description = "Name of the Firestore database."
  value       = module.database.name
}

output "sync_configs" {
  description = "Command that reads the configs now."
  value       = "gcloud scheduler jobs run ${local.prefix}luci-scheduler-sync --project=${var.project_id} --location=${var.region}"
}
