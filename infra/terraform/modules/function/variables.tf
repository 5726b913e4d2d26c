variable "project_id" {
  type        = string
  description = "Project of the service."
}

variable "region" {
  type        = string
  description = "Region of the service."
}

variable "name" {
  type        = string
  description = "Name of the Cloud Run service."
}

variable "entry_point" {
  type        = string
  description = "Name of the entry point in main.py."
}

variable "image" {
  type        = string
  description = "Image that contains functions/, by digest."
}

variable "account" {
  type        = object({ email = string, member = string })
  description = "Account that the function runs as."
}

variable "invokers" {
  type        = set(string)
  description = "All callers of the function, as IAM members."
}

variable "ingress" {
  type        = string
  description = "Networks that may call the function."
}

variable "iap_enabled" {
  type        = bool
  default     = false
  description = "Whether Identity-Aware Proxy stands in front of the service."
}

variable "invoker_iam_disabled" {
  type        = bool
  default     = false
  description = "Whether Cloud Run lets every caller pass."
}

variable "timeout_seconds" {
  type        = number
  description = "Time limit of one request."
}

variable "size" {
  type = object({
    cpu           = string
    memory        = string
    concurrency   = number
    max_instances = number
  })
  description = "Size of an instance, requests per instance, and number of instances."
}

variable "environment" {
  type        = map(string)
  description = "Settings without secrets, as environment variables."
}

variable "secrets" {
  type        = map(object({ name = string, version = string }))
  description = "Environment variable → the secret version that it contains."
}

variable "canary" {
  type        = object({ percent = number, stable = map(string) })
  default     = null
  description = "Share of the latest revision, and entry point → revision with the remaining traffic. Null gives the latest revision all traffic."
}

variable "vpc_connector" {
  type        = string
  description = "ID of the VPC connector, or null."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
