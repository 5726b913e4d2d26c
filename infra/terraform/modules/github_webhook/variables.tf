variable "project_id" {
  type        = string
  description = "Project of the service."
}

variable "region" {
  type        = string
  description = "Region of the service."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "name" {
  type        = string
  description = "Name of the Cloud Run service."
}

variable "image" {
  type        = string
  description = "Image that contains functions/, by digest."
}

variable "topic" {
  type        = string
  description = "Full name of the topic for commit events."
}

variable "secret" {
  type        = object({ name = string, version = string })
  description = "Secret that GitHub signs with, by name and version."
}

variable "environment" {
  type        = map(string)
  description = "Settings without secrets, as environment variables."
}

variable "invoker_iam_disabled" {
  type        = bool
  description = "Whether Cloud Run checks no caller. False: allUsers is the invoker."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
