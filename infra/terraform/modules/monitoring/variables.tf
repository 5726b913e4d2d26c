variable "project_id" {
  type        = string
  description = "Project of the installation."
}

variable "region" {
  type        = string
  description = "Region of the installation, for the texts of alerts."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "alerts" {
  type        = bool
  default     = true
  description = "Whether to create alerts. Metrics, dashboard and objective exist in any case."
}

variable "emails" {
  type        = set(string)
  description = "Recipients of alerts."
}

variable "channels" {
  type        = set(string)
  description = "Existing notification channels for alerts, projects/P/notificationChannels/ID."
}

variable "latency" {
  type = object({
    seconds = number
    goal    = number
  })
  description = "The objective: this share of the builds for commits is requested within so many seconds."
}

variable "silence_hours" {
  type        = number
  description = "Hours in which triggers arrive and no build is requested until an alert reports it."
}

variable "services" {
  type        = map(string)
  description = "Function → name of its Cloud Run service."
}

variable "cloud_build" {
  type        = bool
  default     = false
  description = "Whether jobs start builds of Cloud Build."
}

variable "webhook" {
  type        = string
  default     = null
  description = "Name of the public Cloud Run service for GitHub, or null. It is not one of `services`."
}

variable "schedules" {
  type        = map(string)
  description = "Cron lines of the schedules `sync` and `sweep`."
}

variable "schedule_jobs" {
  type        = map(string)
  description = "Names of the Cloud Scheduler jobs `sync` and `sweep`."
}

variable "queue" {
  type        = string
  description = "Name of the queue."
}

variable "database" {
  type        = string
  description = "Name of the Firestore database, for the texts of alerts."
}

variable "subscriptions" {
  type        = list(string)
  description = "Names of the push subscriptions."
}

variable "dead_letter_subscriptions" {
  type        = list(string)
  description = "Names of the dead-letter subscriptions."
}

variable "rotation_subscription" {
  type        = string
  description = "Name of the subscription for Secret Manager's rotation reminders."
}

variable "runbooks" {
  type        = string
  default     = null
  description = "Address of docs/operations on the web, without a slash at its end, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
