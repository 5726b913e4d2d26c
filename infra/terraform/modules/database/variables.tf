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
  description = "Region or multi-region."
}

variable "delete_protection" {
  type        = bool
  description = "Whether a destroy is refused."
}

variable "point_in_time_recovery" {
  type        = bool
  description = "Whether every version of the last seven days is kept."
}

variable "daily_backup_days" {
  type        = number
  description = "Days that daily backups are kept; 0: none."
}

variable "weekly_backup_weeks" {
  type        = number
  description = "Weeks that weekly backups are kept; 0: none."
}

variable "users" {
  type        = map(string)
  description = "Who may read and write documents, as IAM members."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}
