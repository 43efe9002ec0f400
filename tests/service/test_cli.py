"""The commands as a user sees them: what they print, and how they end."""

import asyncio
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import joblib
import numpy as np
import pytest

from tests.service.processes import penchant
from tests.storage.postgres_15 import running_postgres_15

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.timeout(300)]

_MIGRATIONS = len(list((Path(__file__).parents[2] / "migrations").glob("*.up.sql")))
_NOWHERE = "postgresql://penchant:geheim@127.0.0.1:1/penchant"

_GENRES = ("unknown", "Drama", "War")
_ITEMS = [
    f"{n}|Film {n} (199{n})|01-Jan-199{n}||http://x|0|{n % 2}|{(n + 1) % 2}" for n in range(1, 7)
]
_RATINGS = [(user, film) for user in (1, 2, 3) for film in range(1, 7) if (user + film) % 3]


def _fails(done: subprocess.CompletedProcess[str], code: int, *sentences: str) -> None:
    """The command ended so, and these lines are all that it complained."""
    assert (done.returncode, done.stderr) == (code, "".join(f"penchant: {s}\n" for s in sentences))


def test_version_is_printed(tmp_path: Path) -> None:
    done = penchant(tmp_path, "version")
    assert done.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_no_command_shows_them_all(tmp_path: Path) -> None:
    done = penchant(tmp_path)
    for command in ("serve", "demo", "migrate", "tenant", "import", "doctor", "health", "version"):
        assert command in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("PENCHANT_PORT", "abc", "PENCHANT_PORT: Input should be a valid integer"),
        ("DATABASE_URL", "mysql://a:geheim@b/c", "DATABASE_URL: must begin with postgresql://"),
        ("DB_POOL_SIZE", "many", "DB_POOL_SIZE and DB_MAX_OVERFLOW must be numbers"),
        ("AUTO_RUN_MIGRATIONS", "perhaps", "AUTO_RUN_MIGRATIONS: Input should be a valid boolean"),
    ],
)
def test_wrong_setting_is_named_in_one_line(
    tmp_path: Path, variable: str, text: str, sentence: str
) -> None:
    done = penchant(tmp_path, "migrate", "info", **{variable: text})
    assert done.returncode == 2
    assert done.stderr.startswith(f"penchant: {sentence}")
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr


def test_wrong_option_is_named_in_one_line(tmp_path: Path) -> None:
    done = penchant(tmp_path, "serve", "--port", "99999")
    _fails(done, 2, "--port: Input should be less than or equal to 65535")


def test_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    done = penchant(tmp_path, "migrate", "info", PENCHANT_DATA_DIR="/dev/null/data")
    _fails(done, 1, "Not a directory: /dev/null/data")


async def test_migrations_run_and_go_back(tmp_path: Path, empty_database_url: str) -> None:
    def migrate(*words: str) -> str:
        done = penchant(tmp_path, "migrate", *words, DATABASE_URL=empty_database_url)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert f"{_MIGRATIONS} pending" in migrate("info")
    assert migrate("run").count("applied ") == _MIGRATIONS
    assert migrate("run") == "nothing to do: the schema is up to date\n"
    assert re.fullmatch(rf"reverted {_MIGRATIONS} .*\n", migrate("revert"))
    assert "1 pending" in migrate("info")
    assert migrate("revert", "--to", "0").count("reverted ") == _MIGRATIONS - 1
    assert migrate("revert") == "nothing to revert\n"
    unknown = penchant(tmp_path, "migrate", "revert", "--to", "77", DATABASE_URL=empty_database_url)
    _fails(unknown, 1, "Version 77 is not applied, so nothing can go back to it.")


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.slow)])
async def test_two_migrators_at_once_apply_each_migration_once(
    tmp_path: Path, postgres_server: str, rounds: int
) -> None:
    for _ in range(rounds):
        name = f"twice_{uuid.uuid4().hex}"
        url = f"{postgres_server.rpartition('/')[0]}/{name}"
        connection = await asyncpg.connect(postgres_server)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            both = await asyncio.gather(
                *(
                    asyncio.to_thread(penchant, tmp_path, "migrate", "run", DATABASE_URL=url)
                    for _ in range(2)
                )
            )
            assert [(done.returncode, done.stderr) for done in both] == [(0, "")] * 2
            assert sum(done.stdout.count("applied ") for done in both) == _MIGRATIONS
            assert sum(done.stdout.startswith("nothing to do") for done in both) == 1
        finally:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.close()


@pytest.fixture(scope="module")
def postgres_15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from running_postgres_15(tmp_path_factory.mktemp("pg15"))


async def test_postgres_without_pgvector_is_refused_and_left_alone(
    tmp_path: Path, postgres_15: str
) -> None:
    for words in (("migrate", "run"), ("serve", "--port", "0")):
        done = penchant(tmp_path, *words, DATABASE_URL=postgres_15, PENCHANT_METRICS_PORT="0")
        _fails(
            done,
            1,
            "This PostgreSQL 15 has no pgvector: install the package postgresql-15-pgvector "
            "(0.8.2 or newer) on its machine.",
        )
    connection = await asyncpg.connect(postgres_15)
    tables = await connection.fetchval(
        "SELECT count(*) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    await connection.close()
    assert tables == 0


def test_doctor_finds_nothing_wrong(tmp_path: Path, database_url: str, redis_url: str) -> None:
    done = penchant(tmp_path, "doctor", DATABASE_URL=database_url, REDIS_URL=redis_url)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert all(line.startswith("ok ") for line in lines)
    assert len(lines) == 9
    assert "compiled kernels" in done.stdout


def test_doctor_says_what_to_do(
    tmp_path: Path, empty_database_url: str, postgres_15: str, redis_url: str
) -> None:
    def remedies(database: str, redis: str) -> str:
        done = penchant(tmp_path, "doctor", DATABASE_URL=database, REDIS_URL=redis)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "geheim" not in done.stdout
        found = re.findall(r"^bad  (.*)\n +-> (.*)$", done.stdout, re.MULTILINE)
        return "; ".join(f"{what}: {remedy}" for what, remedy in found)

    away = remedies(_NOWHERE, redis_url)
    assert away == "PostgreSQL cannot be reached.: check DATABASE_URL, and that PostgreSQL runs"
    empty = remedies(empty_database_url, "redis://127.0.0.1:1/0")
    assert f"{_MIGRATIONS} migrations pending: run penchant migrate run" in empty
    assert "Redis does not answer: check REDIS_URL; without Redis answers are right" in empty
    old = remedies(postgres_15, redis_url)
    assert "pgvector is not offered by this PostgreSQL: install it on the server" in old


def test_tenants_are_made_and_listed(tmp_path: Path, empty_database_url: str) -> None:
    def tenant(*words: str) -> subprocess.CompletedProcess[str]:
        return penchant(tmp_path, "tenant", *words, DATABASE_URL=empty_database_url)

    made = tenant("create", "shop", "--display-name", "A [small] shop", "--dimension", "64")
    assert made.stdout == "made tenant shop with 64 dimensions\n"
    _fails(tenant("create", "shop"), 1, "The tenant id 'shop' is or was in use.")
    listed = tenant("list").stdout
    assert re.search(r"shop +│ A \[small\] shop +│ 64 ", listed)
    assert re.search(r"default +│ +│ 512 ", listed)


def _classic(directory: Path) -> Path:
    directory.mkdir()
    (directory / "u.genre").write_text("".join(f"{g}|{n}\n" for n, g in enumerate(_GENRES)))
    (directory / "u.item").write_text("\n".join(_ITEMS) + "\n")
    rows = [f"{user}\t{film}\t{(user * film) % 5 + 1}\t88125094{film}" for user, film in _RATINGS]
    (directory / "u.data").write_text("\n".join(rows) + "\n")
    return directory


def _latest(directory: Path) -> Path:
    directory.mkdir()
    films = [f'{n},"Film {n}, The (200{n})",Drama|War' for n in range(1, 7)]
    (directory / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    rows = [f"{user},{film},3.5,96498270{film}" for user, film in _RATINGS]
    head = "userId,movieId,rating,timestamp"
    (directory / "ratings.csv").write_text("\n".join([head, *rows]) + "\n")
    return directory


async def test_movielens_is_imported_once(tmp_path: Path, empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)

    async def counts(tenant: str) -> tuple[int, int]:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM entities WHERE tenant_id = $1),"
            " (SELECT count(*) FROM interactions WHERE tenant_id = $1)",
            tenant,
        )
        return tuple(row)

    stored = f"stored 6 entities and {len(_RATINGS)} interactions for tenant "
    classic, latest = _classic(tmp_path / "ml-100k"), _latest(tmp_path / "ml-latest")
    for tenant, directory in (("default", classic), ("default", classic), ("new", latest)):
        done = penchant(
            tmp_path, "import", "movielens", str(directory), "--tenant", tenant,
            DATABASE_URL=empty_database_url,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == stored + tenant
        assert await counts(tenant) == (6, len(_RATINGS))
    await connection.close()


def test_movielens_directory_of_another_kind_is_refused(tmp_path: Path) -> None:
    done = penchant(tmp_path, "import", "movielens", str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path} is in neither MovieLens layout: movies.csv, ratings.csv" in done.stderr
    assert done.stderr.count("\n") == 1


def test_health_of_no_service_is_a_failure(tmp_path: Path) -> None:
    done = penchant(tmp_path, "health", "--address", "127.0.0.1:1")
    _fails(done, 1, "no answer from 127.0.0.1:1: UNAVAILABLE")


@pytest.mark.slow
def test_demo_recommends_with_reasons_and_ends(tmp_path: Path) -> None:
    done = penchant(tmp_path, "demo", "--once", "--port", "0", timeout=250)
    # A machine that stops for a moment is worth a warning of the service, and no fault of the demo.
    said = [line for line in done.stderr.splitlines() if "the event loop stood still" not in line]
    assert (done.returncode, said) == (0, [])
    assert len(re.findall(r"^\w+ loves .*, dislikes ", done.stdout, re.MULTILINE)) == 3
    assert len(re.findall(r"(content|item_to_item|trending|popular)\w* \d+%", done.stdout)) >= 15
    assert "grpcurl -plaintext" in done.stdout


def test_import_model_makes_a_version_of_a_trusted_file_only(tmp_path: Path) -> None:
    data = _classic(tmp_path / "ml")
    assert penchant(tmp_path, "import", "movielens", str(data)).returncode == 0
    held = {"item_ids": [1, 2, 3, 99], "item_factors": np.eye(4, 3)}
    joblib.dump(held, tmp_path / "model.joblib")
    words = ("import", "model", "model.joblib", "--name", "theirs", "--entity-type", "movie")
    _fails(
        penchant(tmp_path, *words),
        1,
        "a pickle runs whatever code it holds: give --trust if the file is your own",
    )
    done = penchant(tmp_path, *words, "--trust")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "made theirs@1 of 3 entities; 1 are unknown to tenant default\n"
