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
  kms_key                = local.kms_key
}
