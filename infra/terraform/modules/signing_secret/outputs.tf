output "name" {
  description = "Name of the secret, known when its reader has access."
  value       = google_secret_manager_secret.this.secret_id

  depends_on = [time_sleep.reader_known]
}

output "version" {
  description = "Version of the secret that the functions read."
  value       = google_secret_manager_secret_version.this.version
}
