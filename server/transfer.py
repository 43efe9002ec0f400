"""Settings on their way to a child process: through a pipe, which nobody else can read."""

import json

from pydantic import SecretStr

from server.settings import Settings
from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig


def write_settings(settings: Settings) -> str:
    """Settings as JSON text, secrets in clear."""
    plain = settings.model_dump(mode="json")
    for part in ("database", "cache"):
        url: SecretStr | None = getattr(settings, part).url
        plain[part]["url"] = None if url is None else url.get_secret_value()
    pepper = settings.key_pepper
    plain["key_pepper"] = None if pepper is None else pepper.get_secret_value()
    return json.dumps(plain)


def read_settings(text: str) -> Settings:
    """The settings of `write_settings`, whatever the environment says."""
    plain = json.loads(text)
    return Settings(
        **{
            **plain,
            "database": DatabaseConfig(**plain["database"]),
            "migrations": MigrationConfig(**plain["migrations"]),
            "cache": RedisCacheConfig(**plain["cache"]),
        }
    )
