variable "project_id" {
  type        = string
  description = "Project of the secret."
}

variable "region" {
  type        = string
  description = "Region that the secret is kept in."
}

variable "name" {
  type        = string
  description = "Name of the secret."
}

variable "reader" {
  type        = string
  description = "Who may read it, as IAM member."
}

variable "generation" {
  type        = number
  description = "Raise it by one to rotate."
}

variable "rotation_days" {
  type        = number
  description = "After how many days Secret Manager says that a key is due."
}

variable "reminder_topic" {
  type        = string
  description = "Topic on which it says so."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
