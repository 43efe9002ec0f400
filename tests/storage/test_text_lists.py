"""Lists of ids as one argument come apart in PostgreSQL as they were."""

import pytest

from storage.database import Database
from storage.text_lists import joined


@pytest.mark.parametrize(
    "ids", [[], ["a"], ["a", "b", "a"], ["{,}", '"', "NULL", "\\x1f"], ["ü" * 80, "日本"]]
)
async def test_postgresql_takes_ids_apart(database: Database, ids: list[str]) -> None:
    async with database.connection(None) as connection:
        found = await connection.fetchval("SELECT string_to_array($1, E'\\x1f')", joined(ids))
    assert found == ids


@pytest.mark.parametrize("ids", [["a\x1fb"], ["\x1f"], ["a", "b\x1f"]])
def test_control_character_is_refused(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="control character"):
        joined(ids)
