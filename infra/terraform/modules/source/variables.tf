variable "project_id" {
  type        = string
  description = "Project of the bucket."
}

variable "project_number" {
  type        = string
  description = "Number of the project, part of the name of the functions service's bucket."
}

variable "region" {
  type        = string
  description = "Region of the bucket."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "folder" {
  type        = string
  description = "Folder of the deployed source."
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
