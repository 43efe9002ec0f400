"""One change of the schema, in its file and in the database."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

_NO_TRANSACTION = "-- no-transaction"


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration as its files have it.

    Args:
        version: orders migrations; positive, below 2**63.
        description: the file name's words.
        sql: the whole up file.
        down_sql: the whole down file; None when the change cannot be undone.
    """

    version: int
    description: str
    sql: str
    down_sql: str | None = None

    @property
    def checksum(self) -> bytes:
        """SHA-384 of the up file, 48 bytes."""
        return hashlib.sha384(self.sql.encode()).digest()

    @property
    def title(self) -> str:
        """Version and description, for messages."""
        return f"{self.version} ({self.description})"


def runs_in_transaction(sql: str) -> bool:
    """Whether a file wants the usual transaction around it."""
    return not sql.startswith(_NO_TRANSACTION)


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A migration as the database has it.

    Args:
        version: see `Migration`.
        description: see `Migration`.
        installed_on: when it was applied, with time zone.
        success: False when it has no transaction and failed half way.
        checksum: of the up file that was applied.
        execution_time: nanoseconds; -1 when the runner died before it could note them.
    """

    version: int
    description: str
    installed_on: datetime
    success: bool
    checksum: bytes
    execution_time: int
