module "database" {
  source = "./modules/database"

  project_id             = local.project_id
  name                   = "${local.prefix}${var.database.name}"
  location               = coalesce(var.database.location, var.region)
  delete_protection      = var.database.delete_protection
  point_in_time_recovery = var.database.point_in_time_recovery
  daily_backup_days      = var.database.daily_backup_days
  weekly_backup_weeks    = var.database.weekly_backup_weeks
  users                  = { for account in ["functions", "console"] : account => google_service_account.this[account].member }
  kms_key                = local.database_key
}

# A destroy begins here, because this resource depends on all others. It fails while the database is protected.
resource "terraform_data" "protection" {
  input = { on = var.database.delete_protection, database = "${local.prefix}${var.database.name}" }

  depends_on = [
    google_billing_budget.this, google_iap_settings.console, google_iap_web_cloud_run_service_iam_binding.users, google_kms_crypto_key_iam_member.this, google_project_service.this, google_project_service_identity.this,
    google_iam_workload_identity_pool.github, google_iam_workload_identity_pool_provider.github, google_project_iam_member.private_pools,
    google_pubsub_subscription.rotation, google_pubsub_topic_iam_member.actions, google_secret_manager_secret_iam_member.github,
    google_service_account_iam_member.enqueuers_act_as_tasks,
    google_service_account_iam_member.pubsub_signs_as_push, google_storage_bucket_iam_member.configs, google_vpc_access_connector.this,
    module.build_notifications, module.build_project, module.console_iap, module.database, module.github_webhook, module.function, module.monitoring, module.queue, module.schedule, module.signing_secret,
    module.image, module.topic,
  ]

  provisioner "local-exec" {
    when    = destroy
    command = self.output.on ? "echo The database ${self.output.database} is protected. Set database.delete_protection to false, apply, and destroy again. && exit 1" : "exit 0"
    quiet   = true
  }
}
