"""`penchant migrate run|info|revert`."""

from typing import Annotated

import typer
from rich.table import Table

from server.backends import backends
from server.cli.app import load_settings, run
from server.cli.audited import audited
from server.cli.console import out
from storage.migrations import MigrationRunner

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command("run")
def run_() -> None:
    """Applies the pending migrations."""

    async def work() -> None:
        async with backends(load_settings(), redis=False) as settings:
            runner = MigrationRunner(settings.database, settings.migrations)
            async with audited(settings, "migrate run") as event:
                applied = await runner.run_migrations()
                event.target = " ".join(str(migration.version) for migration in applied)
        for migration in applied:
            out.print(f"applied {migration.version} {migration.description}")
        if not applied:
            out.print("nothing to do: the schema is up to date")

    run(work())


@app.command()
def info() -> None:
    """Lists the migrations and which of them are applied."""

    async def work() -> None:
        async with backends(load_settings(), redis=False) as settings:
            runner = MigrationRunner(settings.database, settings.migrations)
            applied = await runner.list_applied_migrations()
            pending = await runner.pending()
        table = Table("version", "description", "state", "installed on")
        for row in applied:
            state = "applied" if row.success else "failed"
            table.add_row(
                str(row.version), row.description, state, row.installed_on.isoformat(" ", "seconds")
            )
        for migration in pending:
            table.add_row(str(migration.version), migration.description, "pending", "")
        out.print(table)
        out.print(
            f"{len(pending)} pending" if pending else "nothing to do: the schema is up to date"
        )

    run(work())


@app.command()
def revert(
    to: Annotated[
        int | None,
        typer.Option(help="version to go back to; 0 for an empty schema; default: one step"),
    ] = None,
) -> None:
    """Undoes the newest migration, or all down to a version."""

    async def work() -> None:
        async with backends(load_settings(), redis=False) as settings:
            runner = MigrationRunner(settings.database, settings.migrations)
            async with audited(settings, "migrate revert") as event:
                undone = await runner.revert(to)
                event.target = " ".join(str(migration.version) for migration in undone)
        for migration in undone:
            out.print(f"reverted {migration.version} {migration.description}")
        if not undone:
            out.print("nothing to revert")

    run(work())
