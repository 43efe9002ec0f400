"""`penchant health`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.certificates import TlsFiles, check
from server.cli.app import load_settings
from server.cli.console import complain, out
from server.settings import Settings
from storage.exceptions import FailedPrecondition

if TYPE_CHECKING:
    import grpc


def _pem(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(exists=True, dir_okay=False, help=text)
    return option


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def health(
        service: Annotated[str, typer.Option(help="service to ask for; default: the server")] = "",
        address: Annotated[
            str | None, typer.Option(help="host:port; default: as configured")
        ] = None,
        root_certificates: Annotated[
            Path | None, _pem("authorities to trust; default: the configured certificate")
        ] = None,
        certificate: Annotated[
            Path | None, _pem("client certificate for mutual TLS; default: the server's own")
        ] = None,
        key: Annotated[Path | None, _pem("private key of the client certificate")] = None,
    ) -> None:
        """Asks a running server whether it serves; exit code 1 when not."""
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        if (certificate is None) != (key is None):
            complain("--certificate and --key go together")
            raise typer.Exit(2)
        settings = load_settings()
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", "[::]"} else settings.host  # noqa: S104 - compared, not bound
        target = address or f"{host}:{settings.port}"
        try:
            with _channel(settings, target, root_certificates, certificate, key) as channel:
                reply = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # not in the stubs
                    health_pb2.HealthCheckRequest(service=service), timeout=2.5
                )
        except FailedPrecondition as error:
            complain(error.message)
            raise typer.Exit(1) from None
        except grpc.RpcError as error:
            complain(f"no answer from {target}: {error.code().name}")
            raise typer.Exit(1) from None
        state = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        out.print(state)
        raise typer.Exit(0 if state == "SERVING" else 1)


def _channel(
    settings: Settings,
    target: str,
    roots: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> "grpc.Channel":
    """A channel with TLS where settings or files ask for it.

    By default the configured certificate itself is what is trusted, whatever name the server is
    called by, and what is shown to it: a probe on the server's machine needs no files of its own.

    Raises:
        FailedPrecondition: the configured files are no good.
    """
    import grpc

    files = TlsFiles.of(settings)
    if files is None and roots is None and certificate is None:
        return grpc.insecure_channel(target)
    trusted = None if roots is None else roots.read_bytes()
    shown = None if key is None else key.read_bytes()
    chain = None if certificate is None else certificate.read_bytes()
    options: tuple[tuple[str, str], ...] = ()
    if files is not None:
        own = files.read()
        if trusted is None:
            trusted = own.chain
            names = [name for name in check(own).names if "*" not in name]
            options = tuple(("grpc.ssl_target_name_override", name) for name in names[:1])
        if own.client_ca is not None and chain is None:
            shown, chain = own.key, own.chain
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted, shown, chain), options)
