"""`penchant doctor`: checks what the service needs and says what to do."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from engine import native
from engine.integrity import IntegrityCheck
from server.backends import backends
from server.certificates import check_tls
from server.cli.app import load_settings, run
from server.cli.console import out
from server.deps import connect
from server.key_sets import check_key_set
from server.settings import Settings
from storage.database import MAINTENANCE_ROLE, SERVICE_ROLE, Database
from storage.diagnosis import diagnose_database
from storage.exceptions import FailedPrecondition, NotFound, PenchantError
from storage.migrations import MigrationRunner
from storage.redis_cache import RedisCache

_RENEW_BEFORE = timedelta(days=7)
_TENANTS_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: whether it is well, what was found, and what to do where it is not."""

    well: bool
    what: str
    remedy: str = ""


def _kernels() -> Finding:
    """Without them all is well, and slower."""
    return Finding(True, native.state())


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
    # A look-up is given up sooner than one that is late says anything about Redis.
    patient = {"operation_timeout_ms": 5000, "connect_timeout_ms": 5000}
    cache = RedisCache(settings.cache.model_copy(update=patient))
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


async def _tls(settings: Settings) -> list[Finding]:
    try:
        facts = check_tls(settings)
    except FailedPrecondition as error:
        return [Finding(False, error.message, "give certificate and key in PEM, of one pair")]
    if facts is None:
        return []
    soon = datetime.now(UTC) + _RENEW_BEFORE
    remedy = "renew it; the service takes new files over without a restart"
    ends = {"certificate": facts.expires, "clients' authorities": facts.client_ca_expires}
    return [
        Finding(end > soon, f"TLS: {what} valid until {end:%Y-%m-%d %H:%M} UTC", remedy)
        for what, end in ends.items()
        if end is not None
    ]


async def _tokens(settings: Settings) -> list[Finding]:
    if settings.jwt_jwks is None:
        return []
    try:
        count = await asyncio.to_thread(check_key_set, settings.jwt_jwks)
    except FailedPrecondition as error:
        remedy = "check PENCHANT_JWT_JWKS; tokens are refused without a key set"
        return [Finding(False, error.message, remedy)]
    return [Finding(True, f"key set of tokens: {count} usable")]


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
    findings += await _made(_redis, settings)
    return findings + await _tls(settings) + await _tokens(settings)


async def _has_schema(settings: Settings, findings: list[Finding]) -> bool:
    """Whether there is data to examine; if not, the findings say why."""
    answers = findings[1].well
    return answers and not await MigrationRunner(settings.database, settings.migrations).pending()


async def examine_data(settings: Settings) -> list[tuple[str, IntegrityCheck]]:
    """Every tenant's integrity checks, and under "" what concerns no tenant."""
    async with connect(settings) as deps:
        found = [("", await deps.integrity.verify_all())]
        after = ""
        while page := await deps.administration.page_of_tenants(after, _TENANTS_A_PAGE):
            for tenant in page:
                # Its erasure may begin meanwhile.
                with contextlib.suppress(NotFound):
                    checks = await deps.integrity.verify(tenant)
                    found += [(tenant.tenant_id, check) for check in checks]
            after = page[-1].tenant_id
    return found


def _data_table(found: list[tuple[str, IntegrityCheck]]) -> Table:
    """What was examined, over all tenants."""
    table = Table("check", "examined", "problems")
    for name in dict.fromkeys(check.check for _, check in found):
        checks = [check for _, check in found if check.check == name]
        table.add_row(
            name,
            f"{sum(check.examined for check in checks):,}",
            f"{sum(check.problems for check in checks):,}",
        )
    return table


def _data_findings(found: list[tuple[str, IntegrityCheck]]) -> list[Finding]:
    return [
        Finding(
            False,
            f"{tenant_id or 'all tables'}: {check.check}: {check.problems} of {check.examined},"
            f" such as {'; '.join(check.examples)}",
            check.remedy,
        )
        for tenant_id, check in found
        if check.problems
    ]


def _tell(findings: list[Finding]) -> None:
    for finding in findings:
        mark = "[green]ok[/green]  " if finding.well else "[red]bad[/red] "
        out.print(f"{mark} {escape(finding.what)}")
        if not finding.well and finding.remedy:
            out.print(f"      -> {escape(finding.remedy)}")


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def doctor(
        deep: Annotated[
            bool, typer.Option("--deep", help="read all tenants' data and compare it")
        ] = False,
    ) -> None:
        """Checks settings, PostgreSQL, pgvector, migrations and Redis, and says what to do."""
        settings = load_settings()
        quick = settings.database.model_copy(update={"connect_timeout_secs": 5})
        settings = settings.model_copy(update={"database": quick})

        async def work() -> list[Finding]:
            async with backends(settings) as ready:
                findings = [Finding(True, "settings are valid"), _kernels(), *await examine(ready)]
                _tell(findings)
                if not deep or not await _has_schema(ready, findings):
                    return findings
                found = await examine_data(ready)
                out.print(_data_table(found))
                wrong = _data_findings(found)
                _tell(wrong)
                return findings + wrong

        raise typer.Exit(0 if all(finding.well for finding in run(work())) else 1)
