"""`penchant health`."""

from typing import Annotated

import typer

from server.cli.app import load_settings
from server.cli.console import complain, out


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def health(
        service: Annotated[str, typer.Option(help="service to ask for; default: the server")] = "",
        address: Annotated[
            str | None, typer.Option(help="host:port; default: as configured")
        ] = None,
    ) -> None:
        """Asks a running server whether it serves; exit code 1 when not."""
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        settings = load_settings()
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", "[::]"} else settings.host  # noqa: S104 - compared, not bound
        target = address or f"{host}:{settings.port}"
        with grpc.insecure_channel(target) as channel:
            try:
                reply = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # not in the stubs
                    health_pb2.HealthCheckRequest(service=service), timeout=2.5
                )
            except grpc.RpcError as error:
                complain(f"no answer from {target}: {error.code().name}")
                raise typer.Exit(1) from None
        state = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        out.print(state)
        raise typer.Exit(0 if state == "SERVING" else 1)
