"""`penchant keys create|list|rotate|revoke`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from engine.access import ANONYMOUS, OPERATOR
from engine.api_keys import ApiKeys
from engine.key_text import KeyHasher
from engine.secret import ServerSecret
from server.backends import backends, bootstrap
from server.cli.app import load_settings, run
from server.cli.audited import Event, audited
from server.cli.console import complain, err, out
from server.settings import Settings
from storage.api_keys import ApiKey, ApiKeyStore, KeyDraft
from storage.database import MAINTENANCE_ROLE, Database

app = typer.Typer(
    help="API keys; a new key is printed once, on standard output.", no_args_is_help=True
)

_PAGE = 500


@asynccontextmanager
async def _keys() -> AsyncIterator[ApiKeys]:
    """The keys in the database itself: whoever can reach that may do everything."""
    async with backends(load_settings(), redis=False) as settings:
        await bootstrap(settings)
        async with _stored(settings) as keys:
            yield keys


@asynccontextmanager
async def _changing(command: str, tenant_id: str = "") -> AsyncIterator[tuple[ApiKeys, Event]]:
    """Like `_keys`, with an event of the audit."""
    async with backends(load_settings(), redis=False) as settings:
        await bootstrap(settings)
        async with audited(settings, command, tenant_id) as event, _stored(settings) as keys:
            yield keys, event


@asynccontextmanager
async def _stored(settings: Settings) -> AsyncIterator[ApiKeys]:
    one = settings.database.model_copy(update={"min_connections": 1, "max_connections": 1})
    secret = ServerSecret(settings.data_dir, settings.key_pepper)
    async with Database(one, role=MAINTENANCE_ROLE) as maintenance:
        yield ApiKeys(ApiKeyStore(maintenance), KeyHasher(secret))


@app.command()
def create(
    tenant: Annotated[str | None, typer.Option(help="tenant that the key is bound to")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="a key for every tenant")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="what it allows; may be repeated")] = None,
    name: Annotated[str, typer.Option(help="a name for people")] = "",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0, max=36500, help="when it ends by itself; default: never")
    ] = None,
) -> None:
    """Makes a key; without --scope one for the operator has the scope operator."""
    if operator == (tenant is not None):
        complain("say either --tenant or --operator")
        raise typer.Exit(2)
    scopes = tuple(scope or ([OPERATOR] if operator else ()))
    ends = None if expires_in_days is None else timedelta(days=expires_in_days)

    async def work() -> None:
        draft = KeyDraft(
            tenant_id=tenant or "",
            display_name=name,
            scopes=scopes,
            expires_at=None if ends is None else datetime.now(UTC) + ends,
        )
        async with _changing("keys create", tenant or "") as (keys, event):
            key, text = await keys.make(draft, ANONYMOUS)
            event.target = key.key_id
        _show(f"made key {key.key_id} for {_owner(key)} with {', '.join(key.scopes)}", text)

    run(work())


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="keys of this tenant alone")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="keys of the operator alone")
    ] = False,
) -> None:
    """Lists keys, also those that have ended, without their secrets."""
    if operator and tenant is not None:
        complain("say either --tenant or --operator")
        raise typer.Exit(2)

    async def work() -> None:
        table = Table("key", "tenant", "scopes", "name", "state", "made on", "ends", "last used")
        async with _keys() as keys:
            after = ""
            while page := await (
                keys.page(tenant or "", after, _PAGE, ANONYMOUS)
                if operator or tenant is not None
                else keys.page_of_all(after, _PAGE)
            ):
                for key in page:
                    table.add_row(*_row(key))
                after = page[-1].key_id
        out.print(table)

    run(work())


@app.command()
def rotate(
    key_id: str,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=90 * 24, help="for how long the old key still works")
    ] = 24,
) -> None:
    """Makes a key with the same rights; the old one ends after the overlap."""

    async def work() -> None:
        async with _changing("keys rotate") as (keys, event):
            owner = (await keys.find(key_id)).tenant_id
            event.tenant_id, event.target = owner, key_id
            new, text, old = await keys.rotate(owner, key_id, overlap_hours * 3600, ANONYMOUS)
            event.target = f"{old.key_id} {new.key_id}"
        _show(f"made key {new.key_id}; {old.key_id} works until {_when(old.expires_at)}", text)

    run(work())


@app.command()
def revoke(key_id: str) -> None:
    """Ends a key on every worker within a second."""

    async def work() -> None:
        async with _changing("keys revoke") as (keys, event):
            owner = (await keys.find(key_id)).tenant_id
            event.tenant_id, event.target = owner, key_id
            key = await keys.revoke(owner, key_id, ANONYMOUS)
        out.print(f"revoked key {key.key_id} of {_owner(key)}")

    run(work())


def _show(what: str, text: str) -> None:
    """The key stands alone on standard output, so that a script can take it."""
    err.print(f"{escape(what)}; it is not shown again")
    out.print(text, markup=False)


def _owner(key: ApiKey) -> str:
    return f"tenant {key.tenant_id}" if key.tenant_id else "the operator"


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.key_id,
        key.tenant_id or "(operator)",
        " ".join(key.scopes),
        escape(key.display_name),
        _state(key),
        _when(key.created_at),
        _when(key.expires_at),
        _when(key.last_used_at),
    )


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    over = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if over else "works"


def _when(instant: datetime | None) -> str:
    return "never" if instant is None else instant.isoformat(" ", "seconds")
