"""Tests, laid out as src/pocket_agent is."""
