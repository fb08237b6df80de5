"""The audit log: written by the server and by commands, and verified."""

from pocket_agent.audit.audit_log import (
    EMPTY,
    AuditLog,
    AuditObserver,
    AuditRecord,
    FileAuditLog,
    Head,
    append,
    audit_path,
    timestamp,
)
from pocket_agent.audit.verification import Verification, verify

__all__ = [
    "EMPTY",
    "AuditLog",
    "AuditObserver",
    "AuditRecord",
    "FileAuditLog",
    "Head",
    "Verification",
    "append",
    "audit_path",
    "timestamp",
    "verify",
]
