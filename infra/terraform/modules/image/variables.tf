variable "project_id" {
  type        = string
  description = "Project of the image."
}

variable "project_number" {
  type        = string
  description = "Number of the project, part of the name of the functions service's bucket."
}

variable "region" {
  type        = string
  description = "Region of the image."
}

variable "prefix" {
  type        = string
  description = "Prefix of names, with its dash."
}

variable "folder" {
  type        = string
  description = "Folder of the deployed source."
}

variable "image" {
  type        = object({ build = bool, reference = string, runtime = string, worker_pool = string })
  description = "Whether an image is built, the image to use instead, the Python runtime, and the private pool of the build."
}

variable "build_account" {
  type        = object({ name = string, email = string, member = string })
  description = "Account that builds the image, or null if none is built."
}

variable "kms_key" {
  type        = string
  description = "Customer-managed key, or null."
}

variable "labels" {
  type        = map(string)
  description = "Labels."
}
