variable "project_id" { type = string }
variable "config" { type = object({ project = string, repo = string }) }

module "scheduler" {
  source     = "../.."
  project_id = var.project_id
  configs    = [var.config]
  buildbucket_servers = [
    { host = "cr-buildbucket.appspot.com", publisher = "cr-buildbucket@appspot.gserviceaccount.com" },
  ]
}

output "next" { value = module.scheduler }
