variable "project_id" {
  type        = string
  description = "Project in which the builds run."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "enable_apis" {
  type        = bool
  description = "Whether to enable the APIs, for a project that is not the installation's."
}

variable "scheduler" {
  type        = string
  description = "Account that creates, checks and cancels builds, as IAM member."
}

variable "role" {
  type        = string
  description = "Existing role for that account on the project, or null for a new role with the four permissions."
}

variable "create_account" {
  type        = bool
  description = "Whether to create an account for the builds."
}

variable "accounts" {
  type        = set(string)
  description = "E-mails of existing accounts that builds may run as."
}

variable "create_topic" {
  type        = bool
  description = "Whether to create the topic `cloud-builds`. False: it exists, and another configuration owns it."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
