"""The monitoring stack as code: rules, dashboards and configurations, out of one catalogue and the settings."""
