"""Pocket Agent Server: the Claude Code CLI on your own machine, driven and watched from anywhere."""

# Written here, where it costs nothing to read; the build takes it from here as well.
__version__ = "0.1.0"
