# Periodic calls: the config sync, and the sweep that enqueues lost tasks again.

module "schedule" {
  source = "./modules/schedule"
  for_each = {
    sync  = var.schedules.sync
    sweep = var.schedules.sweep
  }

  project_id = local.project_id
  region     = var.region
  name       = "${local.prefix}luci-scheduler-${each.key}"
  cron       = each.value
  url        = local.urls.on_task
  kind       = each.key
  account    = google_service_account.this["cron"].email

  depends_on = [module.function]
}
