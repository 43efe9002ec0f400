"""Settings of the rooms: PostgreSQL, migrations, Redis.

Each class reads its own environment variables; keywords win over them, and Penchant's own names
win over the older aliases (DB_POOL_SIZE and the like).
"""

import os
import re
from typing import Any, Self
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")


class _Settings(BaseSettings):
    """Settings whose aliases stand in one method instead of on every field."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, extra="forbid", hide_input_in_errors=True
    )

    @classmethod
    def aliases(cls, environment: dict[str, str]) -> dict[str, Any]:
        """Field values from variables that do not follow the prefix and the field's name."""
        return {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keywords, then the variables by their names, then the aliases."""
        set_variables = {name.upper(): text for name, text in os.environ.items() if text.strip()}
        return (init_settings, env_settings, _Aliases(settings_cls, cls.aliases(set_variables)))


class _Aliases(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], values: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: object, field_name: str) -> tuple[Any, str, bool]:
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


def _renamed(environment: dict[str, str], names: dict[str, str]) -> dict[str, Any]:
    return {field: environment[name] for name, field in names.items() if name in environment}


def _checked_hosts(url: str) -> str:
    """The URL, if what stands for hosts and ports can be some.

    A password with a character of URLs in it, such as `/`, ends up there in pieces: whoever parses
    the URL later would tell them.
    """
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    for host in authority.rpartition("@")[2].split(","):
        if not _HOST.fullmatch(host):
            raise ValueError(
                "must have hosts as name:port, and in a password %2F for / and so on (URL encoding)"
            )
    return url


class DatabaseConfig(_Settings):
    """PostgreSQL: where it is and how many connections one process holds.

    Environment: DATABASE_ and the field's name in capitals. Aliases: DB_POOL_SIZE (to which
    DB_MAX_OVERFLOW is added), DB_POOL_TIMEOUT, QUERY_TIMEOUT.
    """

    model_config = SettingsConfigDict(env_prefix="DATABASE_")

    url: SecretStr | None = Field(None, description="postgresql:// URL; none: the bundled server")
    max_connections: int = Field(20, ge=1, description="most connections of one process")
    min_connections: int = Field(5, ge=0, description="connections kept open while idle")
    acquire_timeout_secs: float = Field(3, gt=0, description="longest wait for a connection")
    idle_timeout_secs: float = Field(600, ge=0, description="idle connections close; 0: never")
    max_lifetime_secs: float = Field(1800, gt=0, description="older connections close when idle")
    query_timeout_secs: float = Field(30, gt=0, description="longest run of one statement")
    connect_timeout_secs: float = Field(
        30, gt=0, description="longest run of connect(), retries too"
    )

    @classmethod
    def aliases(cls, environment: dict[str, str]) -> dict[str, Any]:
        """The names that SQLAlchemy users know: a pool size and an overflow make the maximum."""
        values = _renamed(
            environment,
            {"DB_POOL_TIMEOUT": "acquire_timeout_secs", "QUERY_TIMEOUT": "query_timeout_secs"},
        )
        if size := environment.get("DB_POOL_SIZE"):
            overflow = environment.get("DB_MAX_OVERFLOW", "0")
            try:
                values["max_connections"] = int(size) + int(overflow)
            except ValueError:
                raise ValueError(
                    f"DB_POOL_SIZE and DB_MAX_OVERFLOW must be numbers, not {size!r}, {overflow!r}"
                ) from None
        return values

    @field_validator("url")
    @classmethod
    def _plain_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, separator, rest = url.get_secret_value().strip().partition("://")
        if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
            raise ValueError("must begin with postgresql://")
        return SecretStr(_checked_hosts(f"postgresql://{rest}"))

    @model_validator(mode="before")
    @classmethod
    def _fewer_kept_than_allowed(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Whoever lowers only the maximum means the number that is kept as well.
        if "min_connections" not in values and "max_connections" in values:
            default = cls.model_fields["min_connections"].default
            try:
                return {**values, "min_connections": min(default, int(values["max_connections"]))}
            except (TypeError, ValueError):
                return values  # the field's own validator says what is wrong
        return values

    @model_validator(mode="after")
    def _minimum_below_maximum(self) -> Self:
        if self.min_connections > self.max_connections:
            raise ValueError(
                f"min_connections ({self.min_connections}) must not exceed "
                f"max_connections ({self.max_connections})"
            )
        return self


class MigrationConfig(_Settings):
    """Migrations. Environment: AUTO_RUN_MIGRATIONS, VALIDATE_PGVECTOR."""

    auto_run: bool = Field(True, description="bring the schema up to date when the service starts")
    validate_pgvector: bool = Field(True, description="refuse a PostgreSQL without a safe pgvector")

    @classmethod
    def aliases(cls, environment: dict[str, str]) -> dict[str, Any]:
        """Both variables have names of their own."""
        return _renamed(
            environment,
            {"AUTO_RUN_MIGRATIONS": "auto_run", "VALIDATE_PGVECTOR": "validate_pgvector"},
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Without the source that would read AUTO_RUN, a name too common to claim."""
        sources = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return tuple(source for source in sources if source is not env_settings)


class RedisCacheConfig(_Settings):
    """Redis: where it is and how long the service waits for it.

    Environment: REDIS_URL, or REDIS_HOST, REDIS_PORT, REDIS_DB and REDIS_PASSWORD;
    CACHE_DEFAULT_TTL, CACHE_MAX_TTL; the others by REDIS_ and the field's name.
    """

    model_config = SettingsConfigDict(env_prefix="REDIS_")

    url: SecretStr | None = Field(
        None, description="redis:// or unix:// URL; none: the bundled one"
    )
    default_ttl_secs: int = Field(3600, ge=1, description="life of an entry")
    max_ttl_secs: int = Field(86400, ge=1, description="longest life of an entry")
    operation_timeout_ms: int = Field(50, ge=1, description="longest wait for one answer")
    connect_timeout_ms: int = Field(200, ge=1, description="longest wait for a connection")

    @classmethod
    def aliases(cls, environment: dict[str, str]) -> dict[str, Any]:
        """The parts of the URL, and the two lives."""
        values = _renamed(
            environment,
            {"CACHE_DEFAULT_TTL": "default_ttl_secs", "CACHE_MAX_TTL": "max_ttl_secs"},
        )
        if host := environment.get("REDIS_HOST"):
            password = environment.get("REDIS_PASSWORD", "")
            login = f":{quote(password, safe='')}@" if password else ""
            port, db = environment.get("REDIS_PORT", "6379"), environment.get("REDIS_DB", "0")
            values["url"] = f"redis://{login}{host}:{port}/{db}"
        return values

    @field_validator("url")
    @classmethod
    def _with_hosts(cls, url: SecretStr | None) -> SecretStr | None:
        return url and SecretStr(_checked_hosts(url.get_secret_value()))

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Self:
        if self.default_ttl_secs > self.max_ttl_secs:
            raise ValueError(
                f"default_ttl_secs ({self.default_ttl_secs}) must not exceed "
                f"max_ttl_secs ({self.max_ttl_secs})"
            )
        return self
