"""The command line: `penchant COMMAND`, one file a command."""

from server.cli.app import main

__all__ = ["main"]
