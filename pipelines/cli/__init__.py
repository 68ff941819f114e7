"""The command line: ``phantomset ...``."""

from phantomset.pipelines.cli.commands import app, call, main

__all__ = ["app", "call", "main"]
