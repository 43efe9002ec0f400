"""`penchant import movielens DIR` and `penchant import model FILE`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from engine.administration import TenantDraft
from engine.catalogue import Upserted
from engine.drafts import EntityDraft, InteractionDraft
from engine.ingest import Ack
from jobs.context import job_context
from server.backends import backends, bootstrap
from server.cli.app import load_settings, run
from server.cli.audited import audited
from server.cli.console import complain, out, progress
from server.deps import Deps, connect
from sources.movielens import MovieLensSource
from storage.exceptions import NotFound, PenchantError
from storage.tenants import Tenant

app = typer.Typer(help="Loads a data set.", no_args_is_help=True)

_SHOWN_ERRORS = 5


@app.callback()
def import_() -> None:
    """Loads a data set."""


async def store_entities(deps: Deps, tenant: Tenant, batch: list[EntityDraft]) -> int:
    """Stores a batch; returns how many rows were, and complains about the others."""
    results = await deps.catalogue.upsert(tenant, batch)
    _complain_about([r for r in results if isinstance(r, PenchantError)])
    return sum(isinstance(result, Upserted) for result in results)


async def store_interactions(deps: Deps, tenant: Tenant, batch: list[InteractionDraft]) -> int:
    """Stores a batch; returns how many rows are stored, now or before."""
    results = await deps.log.ingest(tenant, batch)
    _complain_about([r for r in results if isinstance(r, PenchantError)])
    return sum(isinstance(result, Ack) for result in results)


def _complain_about(errors: list[PenchantError]) -> None:
    for error in errors[:_SHOWN_ERRORS]:
        complain(error.message)
    if len(errors) > _SHOWN_ERRORS:
        complain(f"and {len(errors) - _SHOWN_ERRORS} more rows")


@app.command()
def model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a pickle or joblib file")],
    name: Annotated[str, typer.Option(help="model to add a version to; made if missing")],
    entity_type: Annotated[str, typer.Option(help="type of the entities its ids name")],
    tenant: Annotated[str, typer.Option(help="tenant to load into")] = "default",
    trust: Annotated[
        bool, typer.Option("--trust", help="yes, run the code that such a file may hold")
    ] = False,
) -> None:
    """Adds a version out of item factors that another program trained; it does not serve yet."""
    import tempfile

    import numpy as np

    from engine.foreign_models import write_foreign
    from sources.trusted_models import read_trusted

    if not trust:
        complain("a pickle runs whatever code it holds: give --trust if the file is your own")
        raise typer.Exit(1)

    async def work() -> None:
        foreign = read_trusted(file)
        async with backends(load_settings(), redis=False) as settings:
            await bootstrap(settings)
            async with audited(settings, "import model", tenant, name), connect(settings) as deps:
                known = await deps.tenants.get(tenant)
                keys = [(entity_type, entity_id) for entity_id in foreign.entity_ids]
                numbers = await deps.catalogue.numbers(known, keys)
                rows = [place for place, key in enumerate(keys) if key in numbers]
                nos = np.asarray([numbers[keys[place]] for place in rows], np.int64)
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "artefact"
                    notes = {"imported_from": file.name}
                    sent = write_foreign(known, name, foreign.factors[rows], nos, path, notes)
                    view = await deps.transfers.take_in(known, sent, _pieces(path))
        out.print(
            f"made {name}@{view.row.version} of {len(rows)} entities; "
            f"{len(keys) - len(rows)} are unknown to tenant {tenant}"
        )

    run(work())


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


@app.command()
def movielens(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="ml-100k or ml-latest layout")],
    tenant: Annotated[str, typer.Option(help="tenant to load into; made if missing")] = "default",
) -> None:
    """Loads films with genres and years, and ratings as interactions; safe to repeat."""
    from jobs.registry import run_once

    async def work() -> None:
        source = MovieLensSource(directory)
        async with backends(load_settings()) as settings:
            await bootstrap(settings)
            async with audited(settings, "import movielens", tenant), connect(settings) as deps:
                try:
                    known = await deps.tenants.get(tenant)
                except NotFound:
                    known = await deps.administration.create_tenant(TenantDraft(tenant))
                await deps.administration.set_interaction_type(tenant, "rating", 1.0, None)
                known = await deps.administration.get_tenant(tenant)
                films = ratings = 0
                for entities in progress(source.entities(), source.entity_count, "films"):
                    films += await store_entities(deps, known, entities)
                for batch in progress(source.interactions(), source.interaction_count, "ratings"):
                    ratings += await store_interactions(deps, known, batch)
            out.print("computing what is trending, popular and alike")
            async with job_context(settings) as context:
                await context.retention.analyze()
                await run_once(context)
        out.print(f"stored {films} entities and {ratings} interactions for tenant {tenant}")

    run(work())
