"""Tests of the monitoring stack."""
