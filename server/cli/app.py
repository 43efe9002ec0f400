"""The commands put together."""

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import typer
from pydantic import ValidationError

from server.cli.console import complain
from server.settings import Settings
from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig
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
    """Runs a command's coroutine; what domain or system refuse is one sentence and exit code 1."""
    try:
        return asyncio.run(work)
    except PenchantError as error:
        complain(error.message)
        raise typer.Exit(1) from None
    except OSError as error:  # a port that is taken, a directory that cannot be written
        complain(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; None overrides nothing. Wrong ones end the command."""
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ")
            complain(": ".join((*_name(error.title, problem["loc"], given), message)))
    except ValueError as error:  # an alias that cannot be read
        complain(str(error))
    raise typer.Exit(2)


def _name(title: str, path: tuple[int | str, ...], given: Mapping[str, Any]) -> tuple[str, ...]:
    """What the user calls a setting: the option, else the variable; nothing for a group's rule."""
    if not path:
        return ()
    field = str(path[0])
    if field in given:
        return (f"--{field.replace('_', '-')}",)
    groups = (Settings, DatabaseConfig, MigrationConfig, RedisCacheConfig)
    prefix = next(str(g.model_config.get("env_prefix")) for g in groups if g.__name__ == title)
    return ("AUTO_RUN_MIGRATIONS" if field == "auto_run" else f"{prefix}{field}".upper(),)


def assemble() -> typer.Typer:
    """The command with all its commands; for once in a process."""
    from server.cli import demo, doctor, health, import_, keys, migrate, serve, tenant, version

    for module in (serve, demo, doctor, health, version):
        module.register(app)
    app.add_typer(migrate.app, name="migrate")
    app.add_typer(tenant.app, name="tenant")
    app.add_typer(keys.app, name="keys")
    app.add_typer(import_.app, name="import")
    return app


def main() -> None:
    """The entry point of the `penchant` script."""
    from server.logs import configure_logs

    # A command speaks for itself on stdout; only trouble is logged, but for what `serve` sets.
    configure_logs("auto", "warning")
    sys.exit(assemble()(standalone_mode=True))
