"""The only rooms that speak SQL and Redis: the Python mirror of `recommendation_storage`."""

from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig
from storage.database import Database, PoolStats
from storage.migrations import AppliedMigration, MigrationRunner
from storage.redis_cache import RedisCache
from storage.vector_store import VectorStore

__all__ = [
    "AppliedMigration",
    "Database",
    "DatabaseConfig",
    "MigrationConfig",
    "MigrationRunner",
    "PoolStats",
    "RedisCache",
    "RedisCacheConfig",
    "VectorStore",
]
