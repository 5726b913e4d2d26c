variable "project_id" {
  type        = string
  description = "Project of the queue."
}

variable "region" {
  type        = string
  description = "Region of the queue."
}

variable "name" {
  type        = string
  description = "Name of the queue."
}

variable "dispatches_per_second" {
  type        = number
  description = "Maximum number of dispatches per second."
}

variable "concurrent_dispatches" {
  type        = number
  description = "Maximum number of concurrent dispatches."
}

variable "enqueuers" {
  type        = map(string)
  description = "Accounts that may enqueue tasks, as IAM members."
}
