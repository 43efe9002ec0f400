"""`penchant tenant create|list`."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from engine.administration import TenantDraft
from server.backends import backends, bootstrap
from server.cli.app import load_settings, run
from server.cli.console import out
from server.deps import connect

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
            async with connect(settings) as deps:
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
