"""`pocket-agent doctor`: finds what is wrong with a server and its monitoring, and how to mend it."""

from pocket_agent.monitoring.doctor.checks import examine
from pocket_agent.monitoring.doctor.result import Context, Result, Status, failed, printable

__all__ = ["Context", "Result", "Status", "examine", "failed", "printable"]
