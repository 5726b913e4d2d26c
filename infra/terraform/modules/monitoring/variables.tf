variable "project_id" {
  type        = string
  description = "Project of the installation."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "emails" {
  type        = set(string)
  description = "Recipients of alerts."
}

variable "services" {
  type        = list(string)
  description = "Names of the functions' Cloud Run services."
}

variable "queue" {
  type        = string
  description = "Name of the queue."
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
  description = "Address of docs/operations."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
