variable "project_id" {
  type        = string
  description = "Project of the database."
}

variable "name" {
  type        = string
  description = "Name of the database."
}

variable "location" {
  type        = string
  description = "Region or multi-region of the database."
}

variable "delete_protection" {
  type        = bool
  description = "Whether Firestore refuses to delete the database."
}

variable "point_in_time_recovery" {
  type        = bool
  description = "Whether every version of the last seven days is kept."
}

variable "daily_backup_days" {
  type        = number
  description = "Days that daily backups are kept, or 0 for none."
}

variable "weekly_backup_weeks" {
  type        = number
  description = "Weeks that weekly backups are kept, or 0 for none."
}

variable "users" {
  type        = map(string)
  description = "Accounts that may read and write documents, as IAM members."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}
