variable "project_id" {
  type        = string
  description = "Project that is watched."
}

variable "prefix" {
  type        = string
  description = "Put before names, with its dash."
}

variable "emails" {
  type        = set(string)
  description = "Who is told of alerts."
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
  description = "Names of the subscriptions that keep dead letters."
}

variable "rotation_subscription" {
  type        = string
  description = "Name of the subscription on which Secret Manager asks for a rotation."
}

variable "runbooks" {
  type        = string
  description = "Where docs/operations can be read."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
