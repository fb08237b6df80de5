"""Pocket Agent Server: the Claude Code CLI on your own machine, driven and watched from anywhere."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pocket-agent-server")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0.0.0"
