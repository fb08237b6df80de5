"""Tells people who have no page open what they would want to know."""
