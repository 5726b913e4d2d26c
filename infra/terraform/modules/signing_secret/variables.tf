variable "project_id" {
  type        = string
  description = "Project of the secret."
}

variable "region" {
  type        = string
  description = "Region of the secret."
}

variable "name" {
  type        = string
  description = "Name of the secret."
}

variable "reader" {
  type        = string
  description = "Account that may read the secret, as IAM member."
}

variable "generation" {
  type        = number
  description = "Number of the current key. Raise it by one to rotate."
}

variable "next" {
  type        = bool
  description = "Whether the key of the next generation exists already. Without it, a new key signs before other revisions know it."
}

variable "rotation_days" {
  type        = number
  description = "Days until Secret Manager reports that a key is due."
}

variable "reminder_topic" {
  type        = string
  description = "Topic for this reminder."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
