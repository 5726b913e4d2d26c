variable "project_id" {
  type        = string
  description = "Project of the schedule."
}

variable "region" {
  type        = string
  description = "Region of the schedule."
}

variable "name" {
  type        = string
  description = "Name of the schedule."
}

variable "cron" {
  type        = string
  description = "Schedule, as five cron fields in UTC."
}

variable "url" {
  type        = string
  description = "Address of on_task."
}

variable "kind" {
  type        = string
  description = "Kind of the work: the path of the call."
}

variable "account" {
  type        = string
  description = "E-mail of the account that authenticates the call."
}
