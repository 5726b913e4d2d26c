output "alerts" {
  description = "Names of the alerts. Each has a runbook in docs/operations."
  value       = concat(keys(local.alerts), ["no-sweep"])
}
