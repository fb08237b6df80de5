"""Colours and words that mean the same on every dashboard."""

from typing import Final

STATUSES: Final = {"success": "green", "error": "red", "timeout": "orange", "killed": "purple", "rejected": "yellow"}
"""What became of executions."""
OUTCOMES: Final = {"ok": "green", "client_error": "yellow", "server_error": "red"}
"""How requests were answered."""
BEHAVIORS: Final = {"allow": "green", "deny": "red", "cancelled": "yellow"}
"""What became of approvals."""
CALLS: Final = {"success": "green", "error": "red", "denied": "yellow"}
"""What became of tool calls."""
STATES: Final = {"IDLE": "blue", "EXECUTING": "green", "ERROR": "red"}
"""Of projects."""
LEVELS: Final = {"debug": "blue", "info": "green", "warning": "orange", "error": "red"}
"""Of the log."""

NO_EXECUTION: Final = "No executions lately"
NO_REQUEST: Final = "No request in the last 5 minutes"
NO_EXPORTER: Final = "No node exporter"
