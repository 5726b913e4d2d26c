"""The storm: what holds when messages come twice or never and processes die."""
