"""`penchant serve`."""

from typing import Annotated

import typer

from server.cli.app import load_settings, run


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def serve(
        workers: Annotated[int | None, typer.Option(help="worker processes")] = None,
        host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
        port: Annotated[int | None, typer.Option(help="gRPC port; 0: any free one")] = None,
    ) -> None:
        """Serves; starts the bundled PostgreSQL and Redis where no URL is configured."""
        from server.logs import configure_logs
        from server.processes import serve as serve_until_told

        settings = load_settings(workers=workers, host=host, port=port)
        configure_logs(settings.log_format, settings.log_level)
        run(serve_until_told(settings))
