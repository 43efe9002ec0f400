"""The commands put together."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
from pydantic import ValidationError

from server.cli.console import complain
from server.settings import Settings
from storage.exceptions import PenchantError

T = TypeVar("T")

app = typer.Typer(
    name="penchant",
    help="A recommendation service over gRPC: many tenants, answers with reasons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; what the domain refuses is one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except PenchantError as error:
        complain(error.message)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; None overrides nothing. Wrong ones end the command."""
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            complain(f"setting {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}")
        raise typer.Exit(2) from None


def main() -> None:
    """The entry point of the `penchant` script."""
    from server.cli import demo, doctor, health, import_, migrate, serve, tenant, version
    from server.logs import configure_logs

    # A command speaks for itself on stdout; only trouble is logged, but for what `serve` sets.
    configure_logs("auto", "warning")
    for module in (serve, demo, doctor, health, version):
        module.register(app)
    app.add_typer(migrate.app, name="migrate")
    app.add_typer(tenant.app, name="tenant")
    app.add_typer(import_.app, name="import")
    sys.exit(app(standalone_mode=True))
