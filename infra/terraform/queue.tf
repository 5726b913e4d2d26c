module "queue" {
  source = "./modules/queue"

  project_id            = local.project_id
  region                = var.region
  name                  = "${local.prefix}${var.queue.name}"
  dispatches_per_second = var.queue.dispatches_per_second
  concurrent_dispatches = var.functions.on_task.max_instances * var.functions.on_task.concurrency
  enqueuers             = { for account in ["functions", "console"] : account => google_service_account.this[account].member }
}
