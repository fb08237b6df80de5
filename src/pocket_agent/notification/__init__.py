"""Notifications through other services; the server works without any."""
