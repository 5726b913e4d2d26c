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
  description = "Tasks handed out per second, at most."
}

variable "concurrent_dispatches" {
  type        = number
  description = "Tasks under way at a time, at most."
}

variable "enqueuers" {
  type        = map(string)
  description = "Who may put tasks on the queue, as IAM members."
}
