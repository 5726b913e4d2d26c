variable "project_id" {
  type        = string
  description = "Project of the function."
}

variable "region" {
  type        = string
  description = "Region of the function."
}

variable "name" {
  type        = string
  description = "Name of the function and of its Cloud Run service."
}

variable "entry_point" {
  type        = string
  description = "Name of the entry point in main.py."
}

variable "account" {
  type        = string
  description = "E-mail of the account that the function runs as."
}

variable "invokers" {
  type        = map(string)
  description = "Callers of the function, as IAM members."
}

variable "ingress" {
  type        = string
  description = "Networks that may call the function."
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

variable "secret" {
  type        = object({ name = string, versions = map(string) })
  description = "Secret with the signing keys, and its versions: current, and optionally next and previous."
}

variable "archive" {
  type        = object({ bucket = string, object = string })
  description = "Location of the source archive."
}

variable "repository" {
  type        = string
  description = "Docker repository of the image."
}

variable "build_account" {
  type        = string
  description = "Full name of the account that builds the image."
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
