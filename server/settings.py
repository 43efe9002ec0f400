"""The service's settings: one tree, built once, from the environment."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.config import DatabaseConfig, MigrationConfig, RedisCacheConfig

Seconds = Annotated[float, Field(gt=0)]


def default_data_dir() -> Path:
    """Where the bundled servers keep their data: `penchant` in the user's data directory."""
    base = os.environ.get("XDG_DATA_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".local" / "share") / "penchant"


class Settings(BaseSettings):
    """How the service runs.

    Environment: PENCHANT_ and the field's name in capitals; the three groups `database`,
    `migrations` and `cache` read variables of their own (`storage.config`).
    """

    model_config = SettingsConfigDict(
        env_prefix="PENCHANT_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0: any free one")
    workers: int = Field(1, ge=1, le=256, description="worker processes on the one port")
    tls_cert_file: Path | None = Field(
        None, description="certificate chain in PEM, the server's own first; none: no TLS"
    )
    tls_key_file: Path | None = Field(None, description="private key of that certificate in PEM")
    tls_client_ca_file: Path | None = Field(
        None, description="authorities that clients must bring a certificate of; none: no mTLS"
    )
    jwt_jwks: str | None = Field(
        None, description="path or https:// URL of an identity provider's key set; none: no JWT"
    )
    jwt_issuer: str | None = Field(None, description="what the tokens' claim iss must be")
    jwt_audience: str | None = Field(None, description="what must be in the tokens' claim aud")
    jwt_tenant_claim: str = Field(
        "tenant", min_length=1, description="claim that names the tenant of a token"
    )
    jwt_scope_claim: str = Field(
        "scope", min_length=1, description="claim with its scopes, a list or a text with spaces"
    )
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="port of the Prometheus metrics of all workers; 0: none"
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="what the bundled servers store"
    )
    key_pepper: SecretStr | None = Field(
        None,
        min_length=32,
        description="secret behind hashes of keys and ids; none: one kept in the data directory",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="of a log line; auto: console on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lines below it are not written"
    )
    max_concurrent_calls: int = Field(
        256, ge=1, description="calls that one worker handles at a time; more are refused"
    )
    max_message_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="largest request and answer"
    )
    default_deadline_secs: Seconds = Field(
        30, description="time for a unary call that brings no deadline; streams have none"
    )
    shutdown_grace_secs: float = Field(
        10, ge=0, description="time for calls under way to end when the service stops"
    )
    max_connection_age_secs: Seconds = Field(
        300, description="older connections are closed, so that callers spread over new workers"
    )
    max_connection_age_grace_secs: Seconds = Field(
        30, description="time for the calls of such a connection to end"
    )
    idempotency_window_days: int = Field(
        7, ge=1, description="days for which a repeated interaction_id is recognised"
    )
    jobs_enabled: bool = Field(True, description="run the process of background jobs")
    trending_interval_secs: Seconds = Field(30, description="between refreshes of what trends")
    profile_interval_secs: Seconds = Field(
        5, description="between refreshes of the users' preference vectors"
    )
    neighbours_interval_secs: Seconds = Field(
        60, description="between refreshes of what goes together"
    )
    placement_interval_secs: Seconds = Field(
        30, description="between looks for tenants that need a partition of their own"
    )
    index_quality_interval_secs: Seconds = Field(
        600, description="between comparisons of vector indexes with exact search"
    )
    quota_interval_secs: Seconds = Field(
        60, description="between measurements of what tenants with quotas store"
    )
    retention_interval_secs: Seconds = Field(
        3600, description="between purges of what has outlived its window"
    )
    operation_poll_secs: Seconds = Field(
        0.5, description="between looks for trainings and evaluations to be run"
    )
    training_concurrency: int = Field(
        1, ge=1, le=64, description="trainings and evaluations that run at a time"
    )
    training_threads: int = Field(
        0, ge=0, le=1024, description="threads of a training; 0: one a processor"
    )
    training_memory_mb: int = Field(
        0, ge=0, description="memory in MiB that one training may use; 0: not bounded"
    )
    own_placement_threshold: int = Field(
        10_000, ge=1, description="entities from which a tenant gets a partition of its own"
    )
    cold_start_interactions: int = Field(
        5, ge=0, description="users with fewer interactions get what trends blended in"
    )
    result_cache_ttl_secs: float = Field(
        60, ge=0, description="life of an answer in the result cache; 0: not kept"
    )
    wire_cache_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="memory of each worker for ready answers; 0: none"
    )
    known_catalogue_bytes: int = Field(
        24 * 1024 * 1024,
        ge=0,
        description="memory of each worker for what it knows of catalogues; 0: none",
    )
    several_hosts: bool | None = Field(
        None,
        description="whether services on other hosts share the database, which then need one Redis"
        " for all to keep ready answers; none: if DATABASE_URL is set",
    )
    access_log_sample: float = Field(
        0.01, ge=0, le=1, description="share of the calls in order that get a line in the log"
    )
    signing_key_file: Path | None = Field(
        None, description="Ed25519 key in PEM that signs receipts; none: derived from the pepper"
    )
    degraded_max_age_secs: float = Field(
        3600, ge=0, description="oldest answer given again while PostgreSQL is away; 0: none"
    )
    answer_log_sample: float = Field(
        0.01, ge=0, le=1, description="share of the computed answers that is logged unasked"
    )
    answer_log_days: int = Field(
        7, ge=1, le=3650, description="days for which logged answers are kept"
    )
    audit_days: int = Field(
        365, ge=0, le=36_500, description="days for which the audit is kept; 0: for ever"
    )
    pure_python: bool = Field(
        False, description="whether the compiled kernels are left alone, if they were built"
    )
    default_tenant: str = Field(
        "default", description="tenant made at the start when there is none"
    )
    create_default_tenant: bool = Field(
        True, description="whether that tenant is made when there is none"
    )
    database: DatabaseConfig = Field(
        default_factory=DatabaseConfig, description="PostgreSQL (DATABASE_...)"
    )
    migrations: MigrationConfig = Field(
        default_factory=MigrationConfig,
        description="schema changes (AUTO_RUN_MIGRATIONS, VALIDATE_PGVECTOR)",
    )
    cache: RedisCacheConfig = Field(
        default_factory=RedisCacheConfig, description="Redis (REDIS_...)"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("PENCHANT_TLS_CERT_FILE and PENCHANT_TLS_KEY_FILE go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("PENCHANT_TLS_CLIENT_CA_FILE needs PENCHANT_TLS_CERT_FILE")
        if self.jwt_jwks is not None and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError(
                "PENCHANT_JWT_JWKS needs PENCHANT_JWT_ISSUER and PENCHANT_JWT_AUDIENCE"
            )
        if self.jwt_jwks is None and (self.jwt_issuer or self.jwt_audience):
            raise ValueError("PENCHANT_JWT_ISSUER and PENCHANT_JWT_AUDIENCE need PENCHANT_JWT_JWKS")
        if not _may_bring_keys(self.jwt_jwks or ""):
            raise ValueError("PENCHANT_JWT_JWKS: over http:// anybody on the way could put in keys")
        return self


def _may_bring_keys(place: str) -> bool:
    """Whether keys that come from there can be believed: a file, https, or this machine."""
    url = urlsplit(place)
    return url.scheme.lower() != "http" or url.hostname in {"localhost", "127.0.0.1", "::1"}
