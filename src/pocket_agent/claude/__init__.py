"""All that knows the Claude Code CLI: how to start it, talk to it, read it, and end it."""
