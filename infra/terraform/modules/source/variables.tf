variable "project_id" {
  type        = string
  description = "Project of the bucket."
}

variable "project_number" {
  type        = string
  description = "The project's number, part of the name of the functions service's own bucket."
}

variable "region" {
  type        = string
  description = "Region of the bucket."
}

variable "prefix" {
  type        = string
  description = "Put before names, with its dash."
}

variable "folder" {
  type        = string
  description = "The folder that is deployed."
}

variable "build_account" {
  type        = object({ member = string })
  description = "Account that builds the images."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
