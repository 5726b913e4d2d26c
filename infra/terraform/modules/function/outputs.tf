output "name" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.this.name
}

output "revision" {
  description = "Name of the latest revision."
  value       = basename(google_cloud_run_v2_service.this.latest_ready_revision)
}
