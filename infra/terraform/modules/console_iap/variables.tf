variable "project_id" {
  type        = string
  description = "Project of the load balancer."
}

variable "project_number" {
  type        = string
  description = "Number of the project, part of the audience of IAP's assertions."
}

variable "region" {
  type        = string
  description = "Region of the console."
}

variable "name" {
  type        = string
  description = "Name of all parts of the load balancer."
}

variable "service" {
  type        = string
  description = "Name of the console's Cloud Run service."
}

variable "domain" {
  type        = string
  description = "Domain of the console."
}

variable "members" {
  type        = set(string)
  description = "Users of the console, as IAM members."
}
