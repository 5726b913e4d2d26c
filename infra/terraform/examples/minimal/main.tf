variable "project_id" { type = string }
variable "config" { type = object({ project = string, repo = string }) }
variable "you" { type = string } # e.g. "user:me@example.com"

module "scheduler" {
  source     = "../.."
  project_id = var.project_id
  configs    = [var.config]
  console    = { members = [var.you], admins = [var.you] }
  buildbucket_servers = [
    { host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" },
  ]
}
output "next" { value = module.scheduler }
