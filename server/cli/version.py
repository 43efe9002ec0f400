"""`penchant version`."""

from importlib.metadata import version as installed

import typer

from server.cli.console import out


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def version() -> None:
        """Prints the version."""
        out.print(installed("penchant-server"))
