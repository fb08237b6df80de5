"""Tests of pocket_agent.notification."""
