"""Migrations: a mirror of sqlx's migrator, on the same table, so that both can take turns."""

from storage.migrations.migration import AppliedMigration, Migration
from storage.migrations.migrator import MigrationRunner
from storage.migrations.source import read_migrations

__all__ = ["AppliedMigration", "Migration", "MigrationRunner", "read_migrations"]
