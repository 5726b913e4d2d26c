variable "project_id" {
  type        = string
  description = "Project of the load balancer."
}

variable "project_number" {
  type        = string
  description = "The project's number, part of the audience of IAP's assertions."
}

variable "region" {
  type        = string
  description = "Region of the console."
}

variable "name" {
  type        = string
  description = "Name of everything the load balancer consists of."
}

variable "service" {
  type        = string
  description = "Name of the console's Cloud Run service."
}

variable "domain" {
  type        = string
  description = "Domain that people reach the console under."
}

variable "members" {
  type        = set(string)
  description = "Who may use the console, as IAM members."
}
