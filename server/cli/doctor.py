"""`penchant doctor`: checks what the service needs and says what to do."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import typer

from server.backends import backends
from server.cli.app import load_settings, run
from server.cli.console import out
from server.settings import Settings
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.diagnosis import diagnose_database
from storage.exceptions import PenchantError
from storage.migrations import MigrationRunner
from storage.redis_cache import RedisCache


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: whether it is well, what was found, and what to do where it is not."""

    well: bool
    what: str
    remedy: str = ""


async def _postgres(settings: Settings) -> list[Finding]:
    facts = await diagnose_database(settings.database)
    findings = [Finding(True, f"PostgreSQL {facts.server_version} answers")]
    if facts.pgvector is None:
        findings.append(
            Finding(
                False,
                "pgvector is not offered by this PostgreSQL",
                "install it on the server, for example the package postgresql-18-pgvector",
            )
        )
    else:
        findings.append(
            Finding(
                facts.pgvector >= (0, 8, 2),
                f"pgvector {'.'.join(map(str, facts.pgvector))}",
                "0.8.2 or newer is needed: upgrade the package, then ALTER EXTENSION vector UPDATE",
            )
        )
    findings.append(
        Finding(
            facts.keeps_sessions,
            "session settings stay with a connection"
            if facts.keeps_sessions
            else "session settings get lost between statements",
            "a transaction-pooling proxy stands before PostgreSQL: connect directly",
        )
    )
    return findings


async def _migrations(settings: Settings) -> list[Finding]:
    runner = MigrationRunner(settings.database, settings.migrations)
    pending = await runner.pending()
    version = await runner.get_current_version()
    if pending:
        return [Finding(False, f"{len(pending)} migrations pending", "run penchant migrate run")]
    return [Finding(True, f"schema is up to date at version {version}")]


async def _roles(settings: Settings) -> list[Finding]:
    one = settings.database.model_copy(update={"min_connections": 1, "max_connections": 1})
    findings = []
    for role in (SERVICE_ROLE, MAINTENANCE_ROLE):
        async with Database(one, role=role):
            findings.append(Finding(True, f"the login user can work as {role}"))
    return findings


async def _redis(settings: Settings) -> list[Finding]:
    cache = RedisCache(settings.cache)
    try:
        answers = await cache.ping()
    finally:
        await cache.close()
    return [
        Finding(
            answers,
            "Redis answers" if answers else "Redis does not answer",
            "check REDIS_URL; without Redis answers are right, and slower",
        )
    ]


async def _made(
    check: Callable[[Settings], Awaitable[list[Finding]]], settings: Settings
) -> list[Finding]:
    """What a check finds; one that cannot be made is a finding of its own."""
    try:
        async with asyncio.timeout(15):
            return await check(settings)
    except PenchantError as error:
        return [Finding(False, error.message, "check DATABASE_URL, and that PostgreSQL runs")]
    except TimeoutError:
        return [Finding(False, "no answer within 15 s", "check the network and DATABASE_URL")]


async def examine(settings: Settings) -> list[Finding]:
    """All checks in order; without PostgreSQL those that need it are left out."""
    findings = await _made(_postgres, settings)
    if findings[0].well:
        findings += await _made(_migrations, settings)
        findings += await _made(_roles, settings)
    return findings + await _made(_redis, settings)


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def doctor() -> None:
        """Checks settings, PostgreSQL, pgvector, migrations and Redis, and says what to do."""
        settings = load_settings()
        quick = settings.database.model_copy(update={"connect_timeout_secs": 5})
        settings = settings.model_copy(update={"database": quick})

        async def work() -> list[Finding]:
            async with backends(settings) as ready:
                return await examine(ready)

        findings = [Finding(True, "settings are valid"), *run(work())]
        for finding in findings:
            mark = "[green]ok[/green]  " if finding.well else "[red]bad[/red] "
            out.print(f"{mark} {finding.what}")
            if not finding.well and finding.remedy:
                out.print(f"      -> {finding.remedy}")
        raise typer.Exit(0 if all(finding.well for finding in findings) else 1)
