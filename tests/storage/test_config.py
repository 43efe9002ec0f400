"""Settings: names, aliases, defaults, and who wins."""

import pytest
from pydantic import ValidationError

from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig

_PREFIXES = ("DATABASE_", "DB_", "REDIS_", "CACHE_", "QUERY_", "AUTO_RUN", "VALIDATE_")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the machine do not reach these tests."""
    import os

    for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
        monkeypatch.delenv(name)


def test_database_config_has_the_documented_defaults() -> None:
    config = DatabaseConfig()
    assert config.url is None
    assert (config.max_connections, config.min_connections) == (20, 5)
    assert (config.acquire_timeout_secs, config.query_timeout_secs) == (3, 30)
    assert (config.idle_timeout_secs, config.max_lifetime_secs) == (600, 1800)


@pytest.mark.parametrize(
    ("environment", "field", "expected"),
    [
        ({"DATABASE_MAX_CONNECTIONS": "7"}, "max_connections", 7),
        ({"DATABASE_MIN_CONNECTIONS": "2"}, "min_connections", 2),
        ({"DATABASE_ACQUIRE_TIMEOUT_SECS": "1.5"}, "acquire_timeout_secs", 1.5),
        ({"DATABASE_IDLE_TIMEOUT_SECS": "60"}, "idle_timeout_secs", 60),
        ({"DATABASE_MAX_LIFETIME_SECS": "90"}, "max_lifetime_secs", 90),
        ({"DB_POOL_SIZE": "9"}, "max_connections", 9),
        ({"DB_POOL_SIZE": "9", "DB_MAX_OVERFLOW": "4"}, "max_connections", 13),
        ({"DB_MAX_OVERFLOW": "4"}, "max_connections", 20),
        ({"DB_POOL_SIZE": "9", "DATABASE_MAX_CONNECTIONS": "7"}, "max_connections", 7),
        ({"DB_POOL_TIMEOUT": "8"}, "acquire_timeout_secs", 8),
        ({"QUERY_TIMEOUT": "12"}, "query_timeout_secs", 12),
        ({"DATABASE_MAX_CONNECTIONS": "3"}, "min_connections", 3),
        ({"DATABASE_MAX_CONNECTIONS": ""}, "max_connections", 20),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_database_config_reads(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], field: str, expected: float
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert getattr(DatabaseConfig(), field) == expected


def test_database_config_keywords_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_MAX_CONNECTIONS", "7")
    monkeypatch.setenv("DB_POOL_SIZE", "9")
    assert DatabaseConfig(max_connections=5).max_connections == 5


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_database_url_of_any_usual_scheme_is_normalised(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user:secret@host/db")
    config = DatabaseConfig()
    assert config.url is not None
    assert config.url.get_secret_value() == "postgresql://user:secret@host/db"
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"DATABASE_MIN_CONNECTIONS": "30"}, r"min_connections \(30\).*max_connections \(20\)"),
        ({"DATABASE_URL": "mysql://user:secret@host"}, "postgresql://"),
        ({"DATABASE_MAX_CONNECTIONS": "0", "DATABASE_URL": "postgres://u:secret@h"}, "max_conn"),
        ({"DATABASE_URL": "postgresql://u:secret/1@h/db"}, "hosts as name:port"),
        ({"DATABASE_URL": "postgresql://u:x?secret@h/db"}, "hosts as name:port"),
    ],
    ids=["minimum-above-maximum", "other-scheme", "no-connection", "slash", "question"],
)
def test_database_config_that_cannot_work_is_refused_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValidationError, match=message) as caught:
        DatabaseConfig()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "hosts",
    [
        "h",
        "u:p@h:5432",
        "u:p@a:1,b:2",
        "u@[::1]:5432",
        "u:p%2Fq@%2Ftmp%2Fsocket",
        "u:p@q@h",
        "/d?host=/s",
    ],
)
def test_database_config_takes_hosts_of_every_form(hosts: str) -> None:
    assert DatabaseConfig(url=f"postgresql://{hosts}").url is not None


@pytest.mark.parametrize("url", ["redis://:secret/1@h:6379/0", "redis://h:secret"])
def test_redis_config_tells_nothing_of_a_password_in_pieces(url: str) -> None:
    with pytest.raises(ValidationError, match="hosts as name:port") as caught:
        RedisCacheConfig(url=url)
    assert "secret" not in str(caught.value)


def test_database_config_with_an_alias_that_is_no_number_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_POOL_SIZE", "many")
    with pytest.raises(ValueError, match="DB_POOL_SIZE"):
        DatabaseConfig()


def test_migration_config_reads_its_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MigrationConfig() == MigrationConfig(auto_run=True, validate_pgvector=True)
    monkeypatch.setenv("AUTO_RUN_MIGRATIONS", "false")
    monkeypatch.setenv("VALIDATE_PGVECTOR", "0")
    assert MigrationConfig() == MigrationConfig(auto_run=False, validate_pgvector=False)


def test_redis_config_reads_an_url_or_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "REDIS_HOST": "cache",
        "REDIS_DB": "2",
        "REDIS_PASSWORD": "p@ss",
        "CACHE_DEFAULT_TTL": "60",
        "CACHE_MAX_TTL": "120",
        "REDIS_OPERATION_TIMEOUT_MS": "20",
    }.items():
        monkeypatch.setenv(name, text)
    config = RedisCacheConfig()
    assert config.url is not None
    assert config.url.get_secret_value() == "redis://:p%40ss@cache:6379/2"
    assert (config.default_ttl_secs, config.max_ttl_secs) == (60, 120)
    assert config.operation_timeout_ms == 20

    monkeypatch.setenv("REDIS_URL", "redis://other:1/0")
    config = RedisCacheConfig()
    assert config.url is not None
    assert config.url.get_secret_value() == "redis://other:1/0"
