output "address" {
  description = "IP address that the domain's A record must name."
  value       = google_compute_global_address.this.address
}

output "audience" {
  description = "Audience of the assertions that IAP sends along."
  value       = "/projects/${var.project_number}/global/backendServices/${google_compute_backend_service.this.generated_id}"
}
