"""ModelService: what is refused, and how; and imports that must store nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from penchant.v1 import model_pb2 as pb
from safetensors.numpy import save_file

from storage.artefacts import content_hash
from tests.rpc.conftest import Refusal, Service, refusal_of
from tests.rpc.model_worlds import (
    add_version,
    artefacts_of,
    export,
    make_model,
    models_of,
    send,
    write_version,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATION = "operations/00000000-0000-7000-8000-000000000000"


def create(name: str = "m", algorithm: str = "item_knn", **fields: Any) -> pb.CreateModelRequest:
    settings = fields.pop("hyperparameters", None)
    request = pb.CreateModelRequest(model=pb.Model(name=name, algorithm=algorithm, **fields))
    if settings is not None:
        request.model.hyperparameters.CopyFrom(struct(**settings))
    return request


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def update(*paths: str, **fields: Any) -> pb.UpdateModelRequest:
    return pb.UpdateModelRequest(
        model=pb.Model(**{"name": "main", **fields}), update_mask=FieldMask(paths=paths)
    )


REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "create nothing": ("CreateModel", pb.CreateModelRequest(), "INVALID_ARGUMENT", "model.name"),
    "name empty": ("CreateModel", create(""), "INVALID_ARGUMENT", "model.name"),
    "name long": ("CreateModel", create("a" * 64), "INVALID_ARGUMENT", "model.name"),
    "name begins with a dot": ("CreateModel", create(".a"), "INVALID_ARGUMENT", "model.name"),
    "name with @": ("CreateModel", create("a@1"), "INVALID_ARGUMENT", "model.name"),
    "name with newline": ("CreateModel", create("a\n"), "INVALID_ARGUMENT", "model.name"),
    "name not ASCII": ("CreateModel", create("é"), "INVALID_ARGUMENT", "model.name"),
    "no algorithm": ("CreateModel", create(algorithm=""), "UNKNOWN_ALGORITHM", "model.algorithm"),
    "unknown algorithm": (
        "CreateModel",
        create(algorithm="magic"),
        "UNKNOWN_ALGORITHM",
        "model.algorithm",
    ),
    "unknown hyperparameter": (
        "CreateModel",
        create(hyperparameters={"q": 1}),
        "INVALID_HYPERPARAMETERS",
        "model.hyperparameters.q",
    ),
    "hyperparameter outside": (
        "CreateModel",
        create(hyperparameters={"k": 0}),
        "INVALID_HYPERPARAMETERS",
        "model.hyperparameters.k",
    ),
    "hyperparameter of another type": (
        "CreateModel",
        create(hyperparameters={"similarity": [1]}),
        "INVALID_HYPERPARAMETERS",
        "model.hyperparameters.similarity",
    ),
    "hyperparameter NaN": (
        "CreateModel",
        create(hyperparameters={"k": float("nan")}),
        "INVALID_ARGUMENT",
        "model.hyperparameters",
    ),
    "schedule of words": (
        "CreateModel",
        create(schedule="every day"),
        "INVALID_ARGUMENT",
        "model.schedule",
    ),
    "schedule of six fields": (
        "CreateModel",
        create(schedule="0 0 3 * * *"),
        "INVALID_ARGUMENT",
        "model.schedule",
    ),
    "schedule never": (
        "CreateModel",
        create(schedule="0 0 30 2 *"),
        "INVALID_ARGUMENT",
        "model.schedule",
    ),
    "promotion": ("CreateModel", create(promotion=7), "INVALID_ARGUMENT", "model.promotion"),
    "keep negative": (
        "CreateModel",
        create(keep_versions=-1),
        "INVALID_ARGUMENT",
        "model.keep_versions",
    ),
    "keep 101": (
        "CreateModel",
        create(keep_versions=101),
        "INVALID_ARGUMENT",
        "model.keep_versions",
    ),
    "retention": (
        "CreateModel",
        create(retention_days=3651),
        "INVALID_ARGUMENT",
        "model.retention_days",
    ),
    "get nobody": ("GetModel", pb.GetModelRequest(), "INVALID_ARGUMENT", "name"),
    "get NUL": ("GetModel", pb.GetModelRequest(name="\0"), "INVALID_ARGUMENT", "name"),
    "list negative": (
        "ListModels",
        pb.ListModelsRequest(page_size=-1),
        "INVALID_ARGUMENT",
        "page_size",
    ),
    "list token": (
        "ListModels",
        pb.ListModelsRequest(page_token="?"),
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    "update nobody": ("UpdateModel", pb.UpdateModelRequest(), "INVALID_ARGUMENT", "model.name"),
    "update name": ("UpdateModel", update("name"), "INVALID_ARGUMENT", "update_mask"),
    "update output": (
        "UpdateModel",
        update("serving_version"),
        "INVALID_ARGUMENT",
        "update_mask",
    ),
    "update no algorithm": (
        "UpdateModel",
        update("algorithm"),
        "UNKNOWN_ALGORITHM",
        "model.algorithm",
    ),
    "update unknown hyperparameter": (
        "UpdateModel",
        update(hyperparameters=struct(q=1)),
        "INVALID_HYPERPARAMETERS",
        "model.hyperparameters.q",
    ),
    "update schedule": (
        "UpdateModel",
        update(schedule="61 * * * *"),
        "INVALID_ARGUMENT",
        "model.schedule",
    ),
    "delete nobody": ("DeleteModel", pb.DeleteModelRequest(), "INVALID_ARGUMENT", "name"),
    "train nobody": ("TrainModel", pb.TrainModelRequest(), "INVALID_ARGUMENT", "name"),
    "evaluate split": (
        "EvaluateModel",
        pb.EvaluateModelRequest(name="main", split="half"),
        "INVALID_ARGUMENT",
        "split",
    ),
    "evaluate k 0": (
        "EvaluateModel",
        pb.EvaluateModelRequest(name="main", k=[0]),
        "INVALID_ARGUMENT",
        "k",
    ),
    "evaluate k 101": (
        "EvaluateModel",
        pb.EvaluateModelRequest(name="main", k=[101]),
        "INVALID_ARGUMENT",
        "k",
    ),
    "evaluate six k": (
        "EvaluateModel",
        pb.EvaluateModelRequest(name="main", k=[1, 2, 3, 4, 5, 6]),
        "INVALID_ARGUMENT",
        "k",
    ),
    "cancel nothing": (
        "CancelTraining",
        pb.CancelTrainingRequest(),
        "INVALID_ARGUMENT",
        "operation",
    ),
    "versions negative": (
        "ListVersions",
        pb.ListVersionsRequest(name="main", page_size=-1),
        "INVALID_ARGUMENT",
        "page_size",
    ),
    "versions token": (
        "ListVersions",
        pb.ListVersionsRequest(name="main", page_token="?"),
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    "delete no version": (
        "DeleteVersion",
        pb.DeleteVersionRequest(name="main"),
        "INVALID_ARGUMENT",
        "version",
    ),
    "clean up keep 0": (
        "CleanUpModels",
        pb.CleanUpModelsRequest(keep_versions=0),
        "INVALID_ARGUMENT",
        "keep_versions",
    ),
    "clean up retention": (
        "CleanUpModels",
        pb.CleanUpModelsRequest(retention_days=3651),
        "INVALID_ARGUMENT",
        "retention_days",
    ),
    "clean up name": (
        "CleanUpModels",
        pb.CleanUpModelsRequest(name="a b"),
        "INVALID_ARGUMENT",
        "name",
    ),
    "compare bare name": (
        "CompareModels",
        pb.CompareModelsRequest(versions=["main"]),
        "INVALID_ARGUMENT",
        "versions",
    ),
    "compare 21": (
        "CompareModels",
        pb.CompareModelsRequest(versions=["main@1"] * 21),
        "INVALID_ARGUMENT",
        "versions",
    ),
}

NOT_FOUND = {
    "get": ("GetModel", pb.GetModelRequest(name="none"), "MODEL_NOT_FOUND"),
    "update": ("UpdateModel", update(name="none", keep_versions=3), "MODEL_NOT_FOUND"),
    "delete": ("DeleteModel", pb.DeleteModelRequest(name="none"), "MODEL_NOT_FOUND"),
    "train": ("TrainModel", pb.TrainModelRequest(name="none"), "MODEL_NOT_FOUND"),
    "evaluate": ("EvaluateModel", pb.EvaluateModelRequest(name="none"), "MODEL_NOT_FOUND"),
    "versions": ("ListVersions", pb.ListVersionsRequest(name="none"), "MODEL_NOT_FOUND"),
    "promote": ("PromoteVersion", pb.PromoteVersionRequest(name="none"), "MODEL_NOT_FOUND"),
    "promote unknown": (
        "PromoteVersion",
        pb.PromoteVersionRequest(name="main", version="99"),
        "VERSION_NOT_FOUND",
    ),
    "promote NUL": (
        "PromoteVersion",
        pb.PromoteVersionRequest(name="main", version="\0"),
        "VERSION_NOT_FOUND",
    ),
    "promote untrained": (
        "PromoteVersion",
        pb.PromoteVersionRequest(name="untrained"),
        "VERSION_NOT_FOUND",
    ),
    "roll back": ("RollbackModel", pb.RollbackModelRequest(name="none"), "MODEL_NOT_FOUND"),
    "delete version": (
        "DeleteVersion",
        pb.DeleteVersionRequest(name="main", version="99"),
        "VERSION_NOT_FOUND",
    ),
    "compare": (
        "CompareModels",
        pb.CompareModelsRequest(versions=["main@99"]),
        "VERSION_NOT_FOUND",
    ),
    "cancel": (
        "CancelTraining",
        pb.CancelTrainingRequest(operation=OPERATION),
        "OPERATION_NOT_FOUND",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def models(standing: Service) -> None:
    """A model with one version, and one without."""
    await make_model(standing)
    await make_model(standing, "untrained")
    await add_version(standing)


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_bad_input_is_refused_by_field(standing: Service, case: str):
    method, request, reason, field = REFUSED[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert list(refusal.fields) == [field]


@pytest.mark.parametrize("case", NOT_FOUND, ids=str)
async def test_what_there_is_not_is_not_found(standing: Service, case: str):
    method, request, reason = NOT_FOUND[case]
    refusal = await standing.refused(method, request)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", reason)


async def test_unknown_algorithm_is_told_the_known_ones(standing: Service):
    refusal = await standing.refused("CreateModel", create(algorithm="magic"))
    for name in ("magic", "auto", "item_knn"):
        assert name in refusal.message


async def test_unknown_hyperparameter_is_told_the_allowed_ones(standing: Service):
    refusal = await standing.refused("CreateModel", create(hyperparameters={"q": 1}))
    for name in ("similarity", "half_life_days", "at most 2000"):
        assert name in refusal.message


async def test_taken_name_is_told(standing: Service):
    refusal = await standing.refused("CreateModel", create("main"))
    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "MODEL_EXISTS")


async def test_calls_need_a_tenant_that_exists(standing: Service):
    refusal = await standing.refused("ListModels", pb.ListModelsRequest(), "nobody")
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")


async def refused_import(standing: Service, *parts: Any, tenant: str = "a") -> Refusal:
    """Imports and expects a refusal that leaves nothing behind."""

    async def stored() -> tuple[Any, ...]:
        known = await standing.deps.tenants.get(tenant)
        artefacts = artefacts_of(standing)
        models = models_of(standing)
        temporary = artefacts.temporary().parent
        return (
            artefacts.hashes(),
            list(temporary.iterdir()),
            [row.model_name for row in await models.page(known, "", 100, deleted=True)],
            await models.versions(known, "main", deleted=True),
        )

    before = await stored()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(standing, *parts, tenant=tenant)
    assert await stored() == before
    return refusal_of(caught.value)


Change = Callable[[pb.ModelManifest, bytes], tuple[Any, ...]]


def manifest_with(manifest: pb.ModelManifest, **fields: Any) -> pb.ModelManifest:
    changed = pb.ModelManifest()
    changed.CopyFrom(manifest)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def told(manifest: pb.ModelManifest, **facts: Any) -> pb.ModelManifest:
    return manifest_with(
        manifest, manifest_json=json.dumps({**json.loads(manifest.manifest_json), **facts})
    )


CORRUPT: dict[str, Change] = {
    "nothing": lambda manifest, _: (manifest,),
    "cut off": lambda manifest, content: (manifest, content[:-1]),
    "too long": lambda manifest, content: (manifest, content, b"x"),
    "altered": lambda manifest, content: (manifest, flipped(content)),
    "another checksum": lambda manifest, content: (
        manifest_with(manifest, content_hash="0" * 64),
        content,
    ),
    "another algorithm": lambda manifest, content: (told(manifest, algorithm="ease"), content),
    "another tenant's manifest": lambda manifest, content: (
        told(manifest, tenant_id="b"),
        content,
    ),
}

MALFORMED: dict[str, tuple[Change, str]] = {
    "no message": (lambda *_: (), "manifest"),
    "chunk first": (lambda manifest, content: (content, manifest), "manifest"),
    "manifest twice": (lambda manifest, content: (manifest, content, manifest), "manifest"),
    "no model": (lambda m, c: (manifest_with(m, model=""), c), "manifest.model"),
    "bad model": (lambda m, c: (manifest_with(m, model="../x"), c), "manifest.model"),
    "no checksum": (
        lambda m, c: (manifest_with(m, content_hash=""), c),
        "manifest.content_hash",
    ),
    "checksum that is a path": (
        lambda m, c: (manifest_with(m, content_hash="../" * 21 + "a"), c),
        "manifest.content_hash",
    ),
    "no size": (lambda m, c: (manifest_with(m, size_bytes=0), c), "manifest.size_bytes"),
    "size beyond all": (
        lambda m, c: (manifest_with(m, size_bytes=2**62), c),
        "manifest.size_bytes",
    ),
    "manifest no JSON": (
        lambda m, c: (manifest_with(m, manifest_json="{"), c),
        "manifest.manifest_json",
    ),
    "manifest no object": (
        lambda m, c: (manifest_with(m, manifest_json="[1]"), c),
        "manifest.manifest_json",
    ),
    "report too deep": (
        lambda m, c: (told(m, report=json.loads('{"a":' * 40 + "1" + "}" * 40)), c),
        "manifest.manifest_json",
    ),
}


@pytest.mark.parametrize("case", CORRUPT, ids=str)
async def test_corrupt_import_is_refused_and_stores_nothing(standing: Service, case: str):
    parts = CORRUPT[case](*await export(standing))
    refusal = await refused_import(standing, *parts)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "ARTEFACT_CORRUPT")


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_malformed_import_is_refused_and_stores_nothing(standing: Service, case: str):
    change, field = MALFORMED[case]
    refusal = await refused_import(standing, *change(*await export(standing)))
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", [field])


def manifest_of(path: Path, model: str = "main") -> tuple[pb.ModelManifest, bytes]:
    content = path.read_bytes()
    made = pb.ModelManifest(model=model, content_hash=content_hash(path), size_bytes=len(content))
    return made, content


async def test_import_into_another_tenant_is_refused(standing: Service, tmp_path: Path):
    await standing.make_tenant("b")
    refusal = await refused_import(standing, *await export(standing), tenant="b")
    assert refusal.reason == "ARTEFACT_CORRUPT"
    assert "another tenant" in refusal.message
    path = tmp_path / "same name, made at another time"
    await write_version(standing, path, tenant_created_at="2020-01-01T00:00:00+00:00")
    refusal = await refused_import(standing, *manifest_of(path))
    assert "another tenant" in refusal.message


FOREIGN: dict[str, Callable[[Path], None]] = {
    "text": lambda path: void(path.write_text("a model")),
    "pickle": lambda path: void(path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")),
    "safetensors of others": lambda path: void(save_file({"w": np.ones(3, np.float32)}, path)),
    "header of a list": lambda path: void(path.write_bytes(raw(b"[1]"))),
    "header of a number": lambda path: void(path.write_bytes(raw(b"17"))),
    "header too deep": lambda path: void(path.write_bytes(raw(b"[" * 200_000))),
    "header beyond the file": lambda path: void(path.write_bytes(b"\xff" * 8)),
    "unknown form": lambda path: void(path.write_bytes(raw(manifest_header(form="magic")))),
    "no arrays": lambda path: void(path.write_bytes(raw(manifest_header()))),
    "another layout": lambda path: void(path.write_bytes(raw(manifest_header(layout=99)))),
    "huge shape": lambda path: void(
        path.write_bytes(
            raw(
                manifest_header(
                    arrays={"w": {"dtype": "F32", "shape": [2**63], "data_offsets": [0, 4]}}
                )
            )
        )
    ),
}


def void(_: Any) -> None:
    """For a table of functions whose results nobody wants."""


def raw(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + b"\0\0\0\0"


def manifest_header(arrays: Any = None, **facts: Any) -> bytes:
    manifest = {"layout": 1, "form": "neighbours", "settings": {}, **facts}
    return json.dumps(
        {"__metadata__": {"penchant": json.dumps(manifest)}, **(arrays or {})}
    ).encode()


@pytest.mark.parametrize("case", FOREIGN, ids=str)
async def test_foreign_file_is_refused_and_stores_nothing(
    standing: Service, tmp_path: Path, case: str
):
    path = tmp_path / "foreign"
    FOREIGN[case](path)
    refusal = await refused_import(standing, *manifest_of(path))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "ARTEFACT_CORRUPT")


async def test_import_of_an_unknown_algorithm_makes_no_model(standing: Service, tmp_path: Path):
    path = tmp_path / "artefact"
    await write_version(standing, path, algorithm="magic")
    refusal = await refused_import(standing, *manifest_of(path, "fresh"))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "UNKNOWN_ALGORITHM")
