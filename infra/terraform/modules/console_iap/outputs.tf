output "address" {
  description = "IP address that the domain's A record must name."
  value       = google_compute_global_address.this.address
}
