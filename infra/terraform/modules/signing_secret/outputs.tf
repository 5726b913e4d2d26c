output "name" {
  description = "Name of the secret; known once it may be read."
  value       = google_secret_manager_secret.this.secret_id

  depends_on = [time_sleep.reader_known]
}

output "version" {
  description = "The version that functions read."
  value       = google_secret_manager_secret_version.this.version
}
