output "address" {
  description = "IP address for the domain's A record."
  value       = google_compute_global_address.this.address
}

output "audience" {
  description = "Audience of IAP's assertions."
  value       = "/projects/${var.project_number}/global/backendServices/${google_compute_backend_service.this.generated_id}"
}

output "backend" {
  description = "Name of the backend service."
  value       = google_compute_backend_service.this.name
}
