variable "project_id" {
  type        = string
  description = "Project of the subscription."
}

variable "name" {
  type        = string
  description = "Name of the subscription."
}

variable "topic" {
  type        = string
  description = "Full name of the topic, which may be in another project."
}

variable "filter" {
  type        = string
  description = "Filter on the messages' attributes. Pub/Sub acknowledges the other messages."
}

variable "url" {
  type        = string
  description = "Address of the function that receives the messages."
}

variable "push_account" {
  type        = string
  description = "E-mail of the account that authenticates the push."
}

variable "ack_deadline_seconds" {
  type        = number
  description = "Time limit of the function for a message."
}

variable "pubsub_agent" {
  type        = string
  description = "Pub/Sub's service agent in the project, as IAM member."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
