"""One project's life: its queue, its agent, its approvals, and the only writer of its log."""
