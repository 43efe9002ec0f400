"""Running a file, and naming the statement that fails."""

import asyncpg
import sqlparse

from storage.driver_types import OwnConnection
from storage.exceptions import MigrationError
from storage.migrations.migration import Migration


async def run_statements(connection: OwnConnection, migration: Migration, sql: str) -> None:
    """Runs a file's statements one by one.

    Raises:
        MigrationError: a statement failed; the message has its number, its first line and
            PostgreSQL's words.
    """
    statements = [text for text in map(_without_comments, sqlparse.split(sql)) if text]
    for number, statement in enumerate(statements, start=1):
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            first_line = statement.splitlines()[0].strip()
            raise MigrationError(
                f"Migration {migration.title} failed at statement {number} of {len(statements)}, "
                f"`{first_line}`: {error}.",
                metadata={"version": str(migration.version), "statement": str(number)},
            ) from error


async def explain_failure(
    connection: OwnConnection, migration: Migration, sql: str, error: asyncpg.PostgresError
) -> MigrationError:
    """Finds the statement at which a file failed that was sent and rolled back as one text.

    It runs the statements once more, in a transaction that is always rolled back.
    """
    rehearsal = connection.transaction()
    await rehearsal.start()
    try:
        await run_statements(connection, migration, sql)
    except MigrationError as found:
        return found
    finally:
        await rehearsal.rollback()
    return MigrationError(
        f"Migration {migration.title} failed: {error}.",
        metadata={"version": str(migration.version)},
    )


def _without_comments(statement: str) -> str:
    """The statement from its first line that is neither empty nor a comment."""
    lines = statement.strip().splitlines()
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("--")):
        lines.pop(0)
    return "\n".join(lines)
