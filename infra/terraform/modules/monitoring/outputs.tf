output "alerts" {
  description = "Alert → its page in docs/operations, without the suffix."
  value       = { for name, alert in local.alerts : name => try(alert.runbook, name) if var.alerts }
}
