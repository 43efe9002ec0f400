"""Versions without a training process: fitted, written and kept here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.struct_pb2 import Struct
from penchant.v1 import model_pb2 as pb

from engine.models.artefact import open_artefact, write_artefact
from engine.models.base import Interactions, no_progress
from engine.models.forms import ServingModel
from engine.models.item_knn import ITEM_KNN, ItemKnnConfig
from engine.registry_transfer import tenant_facts
from storage.artefacts import ArtefactStore, content_hash
from storage.models import ModelStore, VersionRow
from storage.operations import OperationStore
from tests.rpc.conftest import Service

STATISTICS = {
    "n_users": 6,
    "n_items": 5,
    "n_interactions": 18,
    "sparsity": 0.4,
    "density": 0.6,
    "avg_interactions_per_user": 3.0,
    "avg_interactions_per_item": 3.6,
    "mean_rating": 1.5,
    "std_rating": 0.5,
    "min_rating": 1.0,
    "max_rating": 2.0,
}


def models_of(service: Service) -> ModelStore:
    """The models behind a server."""
    return ModelStore(service.deps.database, service.deps.maintenance)


def operations_of(service: Service) -> OperationStore:
    """The operations behind a server."""
    return OperationStore(service.deps.database, service.deps.maintenance)


def artefacts_of(service: Service) -> ArtefactStore:
    """The artefacts behind a server."""
    return service.deps.artefacts


def fitted(seed: int = 0) -> ServingModel:
    """A small item-kNN of five entities, another one for every seed."""
    random = np.random.default_rng(seed)
    pairs = random.permutation(30)[:18]
    data = Interactions(
        users=(pairs // 5).astype(np.int32),
        items=(pairs % 5).astype(np.int32),
        weights=np.ones(18, np.float32),
        times=np.arange(18, dtype=np.int64),
        entity_nos=np.arange(1, 6, dtype=np.int64),
        user_keys=np.arange(6, dtype=np.int64),
    )
    return ITEM_KNN.fit(data, ItemKnnConfig(), no_progress)


async def write_version(
    service: Service, path: Path, *, tenant: str = "a", seed: int = 0, **facts: Any
) -> dict[str, Any]:
    """Writes an artefact as a training for a tenant would; returns its manifest."""
    known = await service.deps.tenants.get(tenant)
    given = {
        "algorithm": "item_knn",
        "hyperparameters": {"k": 500, "similarity": "bm25"},
        "statistics": STATISTICS,
        **tenant_facts(known),
        **facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_artefact(fitted(seed), path, {k: v for k, v in given.items() if v is not None})
    return dict(open_artefact(path).manifest)


async def add_version(
    service: Service,
    name: str = "main",
    *,
    tenant: str = "a",
    seed: int = 0,
    metrics: Mapping[str, float] | None = None,
    report: Mapping[str, Any] | None = None,
) -> VersionRow:
    """A trained version of a model, as the trainer leaves it."""
    artefacts = artefacts_of(service)
    path = artefacts.temporary()
    manifest = await write_version(service, path, tenant=tenant, seed=seed, model=name)
    digest = content_hash(path)
    size = artefacts.keep(path, digest)
    metadata: dict[str, Any] = {
        "algorithm": "item_knn",
        "hyperparameters": manifest["hyperparameters"],
        "statistics": STATISTICS,
        "duration_secs": 1.5,
        "peak_memory_bytes": 123_456_789,
        "metrics": dict(metrics or {}),
    }
    if report is not None:
        metadata["report"] = dict(report)
    return await models_of(service).add_version(
        await service.deps.tenants.get(tenant),
        name,
        manifest=manifest,
        metadata=metadata,
        content_hash=digest,
        size_bytes=size,
    )


async def make_model(
    service: Service, name: str = "main", *, tenant: str = "a", **fields: Any
) -> pb.Model:
    """Creates a model; hyperparameters may be a dict."""
    given = {"algorithm": "item_knn", **fields}
    if isinstance(given.get("hyperparameters"), dict):
        struct = Struct()
        struct.update(given["hyperparameters"])
        given["hyperparameters"] = struct
    request = pb.CreateModelRequest(model=pb.Model(name=name, **given))
    return (await service.call("CreateModel", request, tenant)).model


async def promote(service: Service, name: str = "main", version: str = "", **fields: Any) -> Any:
    """Makes a version serve; "" for the newest."""
    request = pb.PromoteVersionRequest(name=name, version=version, **fields)
    return await service.call("PromoteVersion", request)


async def versions_of(service: Service, name: str = "main", **fields: Any) -> list[pb.ModelVersion]:
    """The first page of a model's versions."""
    request = pb.ListVersionsRequest(name=name, **fields)
    return list((await service.call("ListVersions", request)).versions)


async def export(
    service: Service, name: str = "main", version: str = "", tenant: str = "a"
) -> tuple[pb.ModelManifest, bytes]:
    """What ExportModel sends."""
    call = service.model.ExportModel(
        pb.ExportModelRequest(name=name, version=version),
        metadata=(("x-tenant-id", tenant),),
        timeout=20,
    )
    parts = [part async for part in call]
    assert parts[0].WhichOneof("part") == "manifest"
    return parts[0].manifest, b"".join(part.chunk for part in parts[1:])


async def send(
    service: Service, *parts: pb.ModelManifest | bytes, tenant: str = "a"
) -> pb.ImportModelResponse:
    """Imports what it is given."""
    requests = [
        pb.ImportModelRequest(chunk=part)
        if isinstance(part, bytes)
        else pb.ImportModelRequest(manifest=part)
        for part in parts
    ]
    return await service.model.ImportModel(
        iter(requests), metadata=(("x-tenant-id", tenant),), timeout=20
    )
