"""Triggering policies: how pending triggers become requests for invocations. One class for each policy."""
