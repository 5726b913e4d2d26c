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
  description = "When, in five fields, UTC."
}

variable "url" {
  type        = string
  description = "Address of on_task."
}

variable "kind" {
  type        = string
  description = "What on_task is to do: the path that is called."
}

variable "account" {
  type        = string
  description = "E-mail of the account it calls as."
}
