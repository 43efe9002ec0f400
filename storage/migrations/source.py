"""Migration files: `{version}_{description}.up.sql` beside `.down.sql`, or one `.sql`."""

import re
from pathlib import Path

from storage.exceptions import MigrationError
from storage.migrations.migration import Migration

_LARGEST_VERSION = 2**63 - 1
_DOWN, _UP, _SIMPLE = ".down.sql", ".up.sql", ".sql"


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """The directory's migrations by ascending version; files of other names are none.

    Raises:
        MigrationError: no such directory, a version that is no positive number or stands twice, a
            down file without its up file, a file that is not UTF-8.
    """
    if not directory.is_dir():
        raise MigrationError(f"There is no directory of migrations at {directory}.")
    ups: dict[int, tuple[str, str]] = {}
    downs: dict[int, str] = {}
    for path in sorted(directory.iterdir()):
        version_text, underscore, rest = path.name.partition("_")
        if not underscore or not rest.endswith(_SIMPLE) or not path.is_file():
            continue
        version = _version(version_text, path)
        suffix = next(s for s in (_DOWN, _UP, _SIMPLE) if rest.endswith(s))
        known = downs if suffix == _DOWN else ups
        if version in known:
            raise MigrationError(f"Two files have the version {version}: one is {path.name}.")
        sql = _text(path)
        if suffix == _DOWN:
            downs[version] = sql
        else:
            ups[version] = (_description(rest, suffix), sql)
    alone = downs.keys() - ups.keys()
    if alone:
        raise MigrationError(f"Version {min(alone)} has a down file and no up file.")
    return tuple(
        Migration(version, description, sql, downs.get(version))
        for version, (description, sql) in sorted(ups.items())
    )


def _version(text: str, path: Path) -> int:
    version = int(text) if re.fullmatch(r"\+?[0-9]{1,30}", text, re.ASCII) else 0
    if not 0 < version <= _LARGEST_VERSION:
        raise MigrationError(
            f"{path.name} must begin with a positive number, as 0001_words.up.sql."
        )
    return version


def _description(rest: str, suffix: str) -> str:
    # sqlx takes the suffix away as often as it stands at the end.
    while rest.endswith(suffix):
        rest = rest.removesuffix(suffix)
    return rest.replace("_", " ")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()  # not read_text: the checksum is of the bytes as they are
    except UnicodeDecodeError as error:
        raise MigrationError(f"{path.name} is not UTF-8: {error.reason}.") from error
