variable "project_id" {
  type        = string
  description = "Project of the topic."
}

variable "name" {
  type        = string
  description = "Name of the topic and of its subscription."
}

variable "publishers" {
  type        = set(string)
  description = "Who may publish to the topic and get it, as IAM members."
}

variable "url" {
  type        = string
  description = "Address of the function that messages are pushed to."
}

variable "push_account" {
  type        = string
  description = "E-mail of the account that messages are pushed as."
}

variable "ack_deadline_seconds" {
  type        = number
  description = "How long the function may take for a message."
}

variable "pubsub_agent" {
  type        = string
  description = "Pub/Sub's own account in the project, as IAM member."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
