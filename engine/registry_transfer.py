"""Versions that leave the service as a file and come back: export and import."""

import asyncio
import errno
import hashlib
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import orjson

from engine.identifiers import check_depth
from engine.models.artefact import Opened, open_artefact
from engine.models.forms import History
from engine.registry_views import VersionView, check_name, check_version
from engine.tenants import TenantDirectory
from engine.training.checks import check_algorithm, check_hyperparameters
from storage.artefacts import ArtefactStore, check_hash, corrupt
from storage.exceptions import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from storage.models import ModelStore, VersionRow
from storage.quotas import QuotaStore
from storage.tenants import Tenant

CHUNK_BYTES = 1 << 20
MAX_ARTEFACT_BYTES = 16 << 30

_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_SECS = 1e9
_MAX_BYTES = 1 << 60
_MAX_DEPTH = 16


def tenant_facts(tenant: Tenant) -> dict[str, str]:
    """Whose entities an artefact numbers: part of its manifest, checked on import."""
    return {
        "tenant_id": tenant.tenant_id,
        "tenant_created_at": tenant.created_at.isoformat(),
    }


@dataclass(frozen=True, slots=True)
class Sent:
    """What a caller says of an artefact before it comes.

    Attributes:
        model: the name to import under.
        manifest_json: as exported; "" for none.
    """

    model: str
    content_hash: str
    size_bytes: int
    manifest_json: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A version on its way out; `manifest_json` joins the artefact's manifest and the metrics."""

    row: VersionRow
    manifest_json: str
    chunks: AsyncGenerator[bytes, None]


class ModelTransfers:
    """Sends versions out and takes them in, for one tenant a call."""

    def __init__(
        self,
        tenants: TenantDirectory,
        models: ModelStore,
        artefacts: ArtefactStore,
        quotas: QuotaStore,
    ) -> None:
        self._run = tenants.run
        self._models = models
        self._artefacts = artefacts
        self._quotas = quotas

    async def export(self, tenant: Tenant, name: str, version: str) -> Exported:
        """A version's manifest and its artefact in pieces of at most 1 MiB.

        Args:
            version: "" for the newest.

        Raises:
            NotFound: MODEL_NOT_FOUND, VERSION_NOT_FOUND.
            FailedPrecondition: ARTEFACT_CORRUPT.
        """
        check_name(name)
        wanted = check_version(name, version)
        await self._run(tenant, lambda t: self._models.get(t, name))
        row = await self._run(tenant, lambda t: self._models.version(t, name, wanted))
        path = self._artefacts.path(row.content_hash)
        await asyncio.to_thread(open_artefact, path, row.content_hash)
        manifest = orjson.dumps({**row.metadata, **row.manifest}).decode()
        return Exported(row, manifest, _chunks(path))

    async def take_in(
        self, tenant: Tenant, sent: Sent, chunks: AsyncIterator[bytes]
    ) -> VersionView:
        """Makes a version of an artefact; nothing is stored when it is refused.

        Raises:
            InvalidArgument: the manifest is wrong in itself.
            FailedPrecondition: ARTEFACT_CORRUPT: truncated, altered, not of this service or of
                another tenant.
            ResourceExhausted: the disk is full, or the tenant may not store that much.
        """
        notes = _check_sent(sent)
        await self._run(tenant, lambda t: self._quotas.check_bytes(t, sent.size_bytes))
        temporary = await asyncio.to_thread(self._artefacts.temporary)
        try:
            await _receive(temporary, sent, chunks)
            manifest = await asyncio.to_thread(_prove, temporary)
            _check_origin(tenant, manifest, notes)
            metadata = _metadata(manifest, notes)
            await self._prepare_model(tenant, sent.model, manifest, make=False)
            size = await asyncio.to_thread(self._artefacts.keep, temporary, sent.content_hash)
            await self._prepare_model(tenant, sent.model, manifest, make=True)
            row = await self._run(
                tenant,
                lambda t: self._models.add_version(
                    t,
                    sent.model,
                    manifest=manifest,
                    metadata=metadata,
                    content_hash=sent.content_hash,
                    size_bytes=size,
                ),
            )
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise ResourceExhausted("There is no room for the model's artefact.") from error
            raise
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)
        return VersionView.of(row, None)

    async def _prepare_model(
        self, tenant: Tenant, name: str, manifest: Mapping[str, Any], *, make: bool
    ) -> None:
        """Checks that the model is there or can be made; makes it then if asked."""
        try:
            await self._run(tenant, lambda t: self._models.get(t, name))
        except NotFound:
            algorithm = str(manifest.get("algorithm", ""))
            given = _object(manifest.get("hyperparameters"))
            await asyncio.to_thread(_check_settings, algorithm, given)
        else:
            return
        if make:
            try:
                await self._run(
                    tenant,
                    lambda t: self._models.create(
                        t, name, algorithm=algorithm, hyperparameters=given
                    ),
                )
            except AlreadyExists:
                return  # made by another call at this moment


def _check_settings(algorithm: str, hyperparameters: Mapping[str, Any]) -> None:
    field = "manifest.manifest_json"
    check_algorithm(algorithm, field=field)
    check_hyperparameters(algorithm, hyperparameters, field=field)


def _check_sent(sent: Sent) -> dict[str, Any]:
    """The manifest that was sent as JSON, once all of it is in order."""
    check_name(sent.model, "manifest.model")
    if not _HASH.fullmatch(sent.content_hash):
        raise InvalidArgument.field(
            "manifest.content_hash", "must be a SHA-256 in lower-case hexadecimal"
        )
    if not 0 < sent.size_bytes <= MAX_ARTEFACT_BYTES:
        raise InvalidArgument.field(
            "manifest.size_bytes", f"must lie within 1 and {MAX_ARTEFACT_BYTES:,}"
        )
    try:
        notes = orjson.loads(sent.manifest_json or "{}")
    except orjson.JSONDecodeError as error:
        raise InvalidArgument.field("manifest.manifest_json", f"is no JSON: {error}") from None
    if not isinstance(notes, dict):
        raise InvalidArgument.field("manifest.manifest_json", "must be a JSON object")
    return notes


async def _receive(path: Path, sent: Sent, chunks: AsyncIterator[bytes]) -> None:
    """Writes what comes; refuses what is not what was announced."""
    digest, received = hashlib.sha256(), 0

    def write(file: BinaryIO, chunk: bytes) -> None:
        digest.update(chunk)
        file.write(chunk)

    file = await asyncio.to_thread(path.open, "xb")
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > sent.size_bytes:
                raise corrupt("is longer than its manifest says")
            await asyncio.to_thread(write, file, chunk)
    finally:
        await asyncio.to_thread(file.close)
    if received < sent.size_bytes:
        raise corrupt(f"is cut off: {received} of {sent.size_bytes} bytes came")
    check_hash(digest.hexdigest(), sent.content_hash)


def _prove(path: Path) -> dict[str, Any]:
    """Opens an artefact and asks it something; its manifest."""
    try:
        opened = open_artefact(path)
        _ask(opened)
        # Through what the database's JSON can hold.
        manifest: dict[str, Any] = orjson.loads(orjson.dumps(dict(opened.manifest)))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        # What a foreign file of the right outer form runs into.
        raise corrupt(f"is damaged or not of this service: {type(error).__name__}") from error
    except ValueError as error:
        raise corrupt(f"is damaged or not of this service: {error}") from error
    return manifest


def _ask(opened: Opened) -> None:
    model = opened.model
    items = np.arange(min(3, len(model.entity_nos)), dtype=np.int32)
    history = History(items, np.ones(len(items), np.float32), np.zeros(len(items), np.float32))
    found = model.top(history, 10, np.empty(0, np.int32))
    if not np.isfinite(found.scores).all():
        raise ValueError("it scores with numbers that are not finite")


def _check_origin(tenant: Tenant, manifest: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Refuses an artefact of another tenant, or one that came with another one's manifest."""
    created_at = str(manifest.get("tenant_created_at", ""))
    try:
        same = datetime.fromisoformat(created_at) == tenant.created_at
    except ValueError:
        same = False
    if manifest.get("tenant_id") != tenant.tenant_id or not same:
        raise corrupt("is of another tenant: the numbers of its entities mean nothing in this one")
    differing = [name for name, value in manifest.items() if notes.get(name, value) != value]
    if differing:
        raise corrupt(f"is not the one that its manifest describes: {differing[0]} differs")


async def _chunks(path: Path) -> AsyncGenerator[bytes, None]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


def _metadata(manifest: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """What a version says of its training: from the artefact, and from what came beside it."""
    metadata: dict[str, Any] = {
        "algorithm": str(manifest.get("algorithm", ""))[:100],
        "hyperparameters": _object(manifest.get("hyperparameters")),
        "statistics": _numbers(manifest.get("statistics")),
        "metrics": _numbers(notes.get("metrics")),
    }
    seconds, held = notes.get("duration_secs"), notes.get("peak_memory_bytes")
    if _is_number(seconds) and 0 <= seconds <= _MAX_SECS:
        metadata["duration_secs"] = seconds
    if isinstance(held, int) and 0 <= held <= _MAX_BYTES:
        metadata["peak_memory_bytes"] = held
    if report := _object(notes.get("report")):
        metadata["report"] = report
    return metadata


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    check_depth(value, _MAX_DEPTH, "manifest.manifest_json")
    return value


def _numbers(value: Any) -> dict[str, float]:
    given = value.items() if isinstance(value, dict) else ()
    return {name: number for name, number in given if _is_number(number)}


def _is_number(value: Any) -> TypeGuard[float]:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) <= _MAX_BYTES
    )
