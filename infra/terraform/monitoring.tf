module "monitoring" {
  source = "./modules/monitoring"
  count  = var.monitoring.enabled ? 1 : 0

  project_id                = local.project_id
  region                    = var.region
  prefix                    = local.prefix
  alerts                    = var.monitoring.alerts
  emails                    = var.monitoring.emails
  channels                  = var.monitoring.channels
  latency                   = var.monitoring.latency
  silence_hours             = var.monitoring.silence_hours
  services                  = local.names
  cloud_build               = var.cloud_build != null
  webhook                   = local.webhook == null ? null : local.webhook_name
  schedules                 = { sync = var.schedules.sync, sweep = var.schedules.sweep }
  schedule_jobs             = { for schedule in ["sync", "sweep"] : schedule => "${local.prefix}luci-scheduler-${schedule}" }
  queue                     = module.queue.name
  database                  = module.database.name
  subscriptions             = concat(values(module.topic)[*].subscription, values(module.build_notifications)[*].subscription)
  dead_letter_subscriptions = concat(values(module.topic)[*].dead_letter_subscription, values(module.build_notifications)[*].dead_letter_subscription)
  rotation_subscription     = google_pubsub_subscription.rotation.name
  runbooks                  = var.monitoring.runbooks
  labels                    = var.labels
}
