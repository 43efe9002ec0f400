"""`penchant demo`."""

from typing import Annotated

import typer

from server.cli.app import run


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def demo(
        once: Annotated[bool, typer.Option("--once", help="end after the answers")] = False,
        port: Annotated[
            int | None, typer.Option(help="gRPC port; default: 50051, else any")
        ] = None,
    ) -> None:
        """Starts everything, loads made-up books, and recommends to three readers with reasons."""
        from server.cli.demonstration import demonstrate

        run(demonstrate(once=once, port=port))
