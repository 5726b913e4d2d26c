output "name" {
  description = "Name of the database; known once its indexes are there."
  value       = google_firestore_database.this.name

  # A function that is newer than an index would send queries that Firestore refuses.
  depends_on = [google_firestore_field.indexed]
}
