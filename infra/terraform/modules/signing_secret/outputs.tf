output "name" {
  description = "Name of the secret, known when its reader has access."
  value       = google_secret_manager_secret.this.secret_id

  depends_on = [time_sleep.reader_known]
}

output "versions" {
  description = "Versions that a function reads: `current` signs, and all verify. `next` and `previous` are left out where there is none."
  value = {
    for name, generation in { current = var.generation, next = var.generation + 1, previous = var.generation - 1 } :
    name => google_secret_manager_secret_version.key[tostring(generation)].version
    if contains(keys(local.generations), tostring(generation))
  }
}
