# A periodic call of on_task.

resource "google_cloud_scheduler_job" "this" {
  project     = var.project_id
  region      = var.region
  name        = var.name
  description = "LUCI Scheduler: ${var.kind}"
  schedule    = var.cron
  time_zone   = "Etc/UTC"
  # Equals a task's dispatch deadline.
  attempt_deadline = "600s"

  http_target {
    http_method = "POST"
    uri         = "${var.url}/${var.kind}"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode("{}")

    oidc_token {
      service_account_email = var.account
      audience              = var.url
    }
  }

  # Cloud Scheduler adds its token as a header. Providers before 7.31 show that header as a change in every plan.
  lifecycle {
    ignore_changes = [http_target[0].headers]
  }
}
