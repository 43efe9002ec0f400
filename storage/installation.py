"""Which database this is, and where its model artefacts lie."""

from pathlib import Path

from storage.artefacts import FileArtefactStore
from storage.database import Database
from storage.exceptions import FailedPrecondition
from storage.queries import load

_SQL = load("installation")


async def artefacts_of(data_dir: Path, database: Database) -> FileArtefactStore:
    """The artefacts of a database: a folder of their own under `models` of the data directory.

    Databases may share a data directory, and each sweeps away what none of its versions names.

    Raises:
        FailedPrecondition: the database is not migrated yet.
    """
    async with database.connection(None) as connection:
        found = await connection.fetchval(_SQL["installation_id"])
    if found is None:
        raise FailedPrecondition("The database has no installation id: it is not migrated yet.")
    return FileArtefactStore(data_dir / "models" / str(found))
