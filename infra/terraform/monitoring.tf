module "monitoring" {
  source = "./modules/monitoring"
  count  = var.monitoring.enabled ? 1 : 0

  project_id                = local.project_id
  prefix                    = local.prefix
  emails                    = var.monitoring.emails
  services                  = values(local.names)
  queue                     = module.queue.name
  subscriptions             = [for topic in module.topic : topic.subscription]
  dead_letter_subscriptions = [for topic in module.topic : topic.dead_letter_subscription]
  rotation_subscription     = google_pubsub_subscription.rotation.name
  runbooks                  = var.monitoring.runbooks
  labels                    = var.labels
}
