"""`penchant tenant create|list|quotas`."""

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from engine.administration import TenantDraft
from server.backends import backends, bootstrap
from server.cli.app import load_settings, run
from server.cli.audited import audited
from server.cli.console import out
from server.deps import connect
from storage.quotas import QuotaUsage
from storage.tenants import Quotas

app = typer.Typer(help="Tenants.", no_args_is_help=True)


@app.command()
def create(
    tenant_id: str,
    display_name: Annotated[str, typer.Option(help="a name for people")] = "",
    dimension: Annotated[int, typer.Option(help="length of feature vectors, 2 to 1536")] = 512,
) -> None:
    """Makes a tenant."""

    async def work() -> None:
        async with backends(load_settings(), redis=False) as settings:
            await bootstrap(settings)
            async with audited(settings, "tenant create", tenant_id), connect(settings) as deps:
                tenant = await deps.administration.create_tenant(
                    TenantDraft(tenant_id, display_name=display_name, dimension=dimension)
                )
        out.print(f"made tenant {tenant.tenant_id} with {tenant.dimension} dimensions")

    run(work())


@app.command("list")
def list_() -> None:
    """Lists the tenants."""

    async def work() -> None:
        table = Table("tenant", "name", "dimension", "placement", "made on")
        async with backends(load_settings(), redis=False) as settings:
            await bootstrap(settings)
            async with connect(settings) as deps:
                after = ""
                while page := await deps.administration.page_of_tenants(after, 500):
                    for t in page:
                        made = t.created_at.isoformat(" ", "seconds")
                        name = escape(t.display_name)
                        table.add_row(t.tenant_id, name, str(t.dimension), str(t.placement), made)
                    after = page[-1].tenant_id
        out.print(table)

    run(work())


@app.command()
def quotas(
    tenant_id: str,
    requests_per_second: Annotated[float | None, typer.Option(help="over all workers")] = None,
    burst: Annotated[float | None, typer.Option(help="requests at once; 0: those of 1 s")] = None,
    entities: Annotated[int | None, typer.Option(help="stored, stubs included")] = None,
    interactions_per_day: Annotated[int | None, typer.Option(help="stored a day (UTC)")] = None,
    training_minutes_per_day: Annotated[float | None, typer.Option(help="a day (UTC)")] = None,
    stored_bytes: Annotated[int | None, typer.Option(help="of rows and artefacts")] = None,
) -> None:
    """Shows what a tenant may use and what it uses; changes the limits that are given (0: none)."""
    given: dict[str, Any] = {
        "requests_per_second": requests_per_second,
        "burst": burst,
        "entities": entities,
        "interactions_per_day": interactions_per_day,
        "training_minutes_per_day": training_minutes_per_day,
        "stored_bytes": stored_bytes,
    }
    changed = {name: value for name, value in given.items() if value is not None}

    async def work() -> None:
        async with backends(load_settings(), redis=False) as settings:
            await bootstrap(settings)
            async with connect(settings) as deps:
                limits, usage = await deps.quotas.get(tenant_id)
                if changed:
                    async with audited(settings, "tenant quotas", tenant_id):
                        await deps.quotas.set(tenant_id, replace(limits, **changed))
                    limits, usage = await deps.quotas.get(tenant_id)
        out.print(_table(limits, usage))

    run(work())


def _table(limits: Quotas, usage: QuotaUsage) -> Table:
    used = {
        "entities": f"{usage.entities:,}",
        "interactions_per_day": f"{usage.interactions:,}",
        "training_minutes_per_day": f"{usage.training_secs / 60:,.2f}",
        "stored_bytes": f"{usage.stored_bytes:,}",
    }
    table = Table("quota", "limit", "used")
    for name, limit in asdict(limits).items():
        table.add_row(name.replace("_", " "), f"{limit:,}" if limit else "none", used.get(name, ""))
    return table
