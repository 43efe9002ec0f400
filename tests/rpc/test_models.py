"""ModelService: models, versions, what serves, and versions that leave and come back."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from penchant import Cancelled, Client
from penchant.v1 import model_pb2 as pb

from engine.models import BY_NAME
from tests.rpc.conftest import Refusal, Service, refusal_of
from tests.rpc.model_worlds import (
    STATISTICS,
    add_version,
    artefacts_of,
    export,
    make_model,
    models_of,
    promote,
    send,
    versions_of,
)


async def model_of(service: Service, name: str = "main", tenant: str = "a") -> Any:
    return await service.call("GetModel", pb.GetModelRequest(name=name), tenant)


def update(*paths: str, **fields: Any) -> pb.UpdateModelRequest:
    return pb.UpdateModelRequest(
        model=pb.Model(name="main", **fields), update_mask=FieldMask(paths=paths)
    )


async def test_algorithms_are_listed_with_their_schemas(service: Service):
    answer = await service.call("ListAlgorithms", pb.ListAlgorithmsRequest())
    names = [algorithm.name for algorithm in answer.algorithms]
    assert names == sorted([*BY_NAME, "auto"])
    knn = answer.algorithms[names.index("item_knn")]
    assert knn.summary == "Entities that the same users liked, by cosine, tf-idf or BM25."
    assert knn.hyperparameters["properties"]["k"]["default"] == 500
    assert knn.hyperparameters["properties"]["k"]["description"]


async def test_model_has_defaults(service: Service):
    made = await make_model(service)
    assert made == (await model_of(service)).model
    assert (made.name, made.algorithm, made.promotion) == (
        "main",
        "item_knn",
        pb.PROMOTION_IF_NOT_WORSE,
    )
    assert (made.keep_versions, made.retention_days, made.schedule) == (5, 90, "")
    assert (made.latest_version, made.serving_version) == ("", "")
    assert made.create_time == made.update_time
    assert not made.HasField("next_run_time")
    assert len(made.hyperparameters.fields) == 0


async def test_model_keeps_what_it_is_made_with(service: Service):
    made = await make_model(
        service,
        "A.b_c-9",
        hyperparameters={"k": 20, "similarity": "cosine"},
        schedule="0 3 * * *",
        promotion=pb.PROMOTION_NEVER,
        keep_versions=100,
        retention_days=3650,
        latest_version="7",
        serving_version="7",
    )
    assert made.hyperparameters["k"] == 20
    assert made.hyperparameters["similarity"] == "cosine"
    assert (made.schedule, made.promotion) == ("0 3 * * *", pb.PROMOTION_NEVER)
    assert (made.keep_versions, made.retention_days) == (100, 3650)
    assert made.next_run_time.ToDatetime().hour == 3
    assert (made.latest_version, made.serving_version) == ("", "")


async def test_models_are_listed_by_page(service: Service):
    for name in ("b", "a", "C"):
        await make_model(service, name)
    await service.call("DeleteModel", pb.DeleteModelRequest(name="b"))
    page = await service.call("ListModels", pb.ListModelsRequest(page_size=1))
    assert [model.name for model in page.models] == ["C"]
    request = pb.ListModelsRequest(page_token=page.next_page_token)
    rest = await service.call("ListModels", request)
    assert ([model.name for model in rest.models], rest.next_page_token) == (["a"], "")
    every = await service.call("ListModels", pb.ListModelsRequest(show_deleted=True))
    assert [model.name for model in every.models] == ["C", "a", "b"]


async def test_update_changes_what_is_named(service: Service):
    await make_model(service, hyperparameters={"k": 20}, schedule="0 3 * * *", keep_versions=7)
    masked = (await service.call("UpdateModel", update("schedule", keep_versions=9))).model
    assert (masked.schedule, masked.keep_versions) == ("", 7)
    assert not masked.HasField("next_run_time")
    given = (await service.call("UpdateModel", update(keep_versions=9))).model
    assert (given.keep_versions, given.hyperparameters["k"]) == (9, 20)
    whole = (await service.call("UpdateModel", update("*", algorithm="item_knn"))).model
    assert (whole.keep_versions, len(whole.hyperparameters.fields)) == (5, 0)
    assert (await service.call("UpdateModel", update())).model == whole


async def test_update_to_an_algorithm_that_the_settings_do_not_fit_is_refused(service: Service):
    await make_model(service, hyperparameters={"similarity": "cosine"})
    refusal = await service.refused("UpdateModel", update(algorithm="auto"))
    assert refusal.reason == "INVALID_HYPERPARAMETERS"
    changed = update("algorithm", "hyperparameters", algorithm="auto")
    assert (await service.call("UpdateModel", changed)).model.algorithm == "auto"


async def test_versions_are_listed_newest_first(service: Service):
    await make_model(service)
    for seed in range(3):
        await add_version(service, seed=seed, metrics={"ndcg@20": 0.1 * seed})
    page = await service.call("ListVersions", pb.ListVersionsRequest(name="main", page_size=2))
    assert [version.version for version in page.versions] == ["3", "2"]
    rest = await versions_of(service, page_token=page.next_page_token)
    assert [version.version for version in rest] == ["1"]
    newest = page.versions[0]
    assert (newest.model, newest.algorithm, newest.state) == (
        "main",
        "item_knn",
        pb.VERSION_STATE_READY,
    )
    statistics = newest.statistics
    assert {f.name: getattr(statistics, f.name) for f in statistics.DESCRIPTOR.fields} == STATISTICS
    assert newest.duration.ToMilliseconds() == 1500
    assert newest.peak_memory_bytes == 123_456_789
    assert newest.artefact_bytes > 0
    assert len(newest.content_hash) == 64
    assert dict(newest.metrics) == {"ndcg@20": 0.2}
    assert not newest.HasField("report")
    found = await model_of(service)
    assert (found.model.latest_version, found.latest) == ("3", newest)
    assert not found.HasField("serving")


async def test_report_of_a_version_comes_back(service: Service):
    await make_model(service)
    await add_version(service, report={"chosen": "ease", "tried": [{"name": "als", "score": 0.5}]})
    (version,) = await versions_of(service)
    assert version.report["chosen"] == "ease"
    assert version.report["tried"][0]["score"] == 0.5


async def test_promoted_version_serves_and_rolls_back(service: Service):
    await make_model(service)
    for seed in range(3):
        await add_version(service, seed=seed)
    first = await promote(service, version="1")
    assert (first.version.version, first.version.state, first.previous) == (
        "1",
        pb.VERSION_STATE_SERVING,
        "",
    )
    assert (await promote(service, version="2")).previous == "main@1"
    assert (await promote(service)).previous == "main@2"
    found = await model_of(service)
    assert (found.model.serving_version, found.serving.version) == ("3", "3")
    back = await service.call("RollbackModel", pb.RollbackModelRequest(name="main"))
    assert (back.version.version, back.previous) == ("2", "main@3")
    again = await service.call("RollbackModel", pb.RollbackModelRequest(name="main"))
    assert (again.version.version, again.previous) == ("1", "main@2")
    refusal = await service.refused("RollbackModel", pb.RollbackModelRequest(name="main"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "NO_PREVIOUS_VERSION")
    assert (await model_of(service)).model.serving_version == "1"
    states = [version.state for version in await versions_of(service)]
    assert states == [pb.VERSION_STATE_READY, pb.VERSION_STATE_READY, pb.VERSION_STATE_SERVING]


async def test_rollback_crosses_models(service: Service):
    for name in ("main", "other"):
        await make_model(service, name)
        await add_version(service, name)
        await promote(service, name)
    refusal = await service.refused("RollbackModel", pb.RollbackModelRequest(name="main"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")
    back = await service.call("RollbackModel", pb.RollbackModelRequest(name="other"))
    assert (back.version.model, back.version.version, back.previous) == ("main", "1", "other@1")


async def test_promotion_of_what_serves_changes_nothing(service: Service):
    await make_model(service)
    await add_version(service)
    await promote(service)
    again = await promote(service)
    assert (again.version.version, again.previous) == ("1", "main@1")
    tenant = await service.deps.tenants.get("a")
    assert len(await models_of(service).promotions(tenant)) == 1


async def test_worse_version_is_promoted_by_force_only(service: Service):
    await make_model(service)
    good = {"ndcg@20": 0.2, "ndcg@20.low": 0.19, "ndcg@20.high": 0.21}
    await add_version(service, metrics=good)
    await add_version(service, seed=1, metrics={"ndcg@20": 0.18})
    await add_version(service, seed=2, metrics={"ndcg@20": 0.195})
    await promote(service, version="1")
    request = pb.PromoteVersionRequest(name="main", version="2")
    refusal = await service.refused("PromoteVersion", request)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "MODEL_WORSE")
    assert "0.1800" in refusal.message
    assert (await promote(service, version="3")).version.version == "3"
    assert (await promote(service, version="2", force=True)).version.version == "2"


async def test_altered_artefact_is_not_promoted_and_says_why(service: Service):
    await make_model(service)
    await add_version(service)
    row = await add_version(service, seed=1)
    await promote(service, version="1")
    path = artefacts_of(service).path(row.content_hash)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refusal = await service.refused("PromoteVersion", pb.PromoteVersionRequest(name="main"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "ARTEFACT_CORRUPT")
    newest, oldest = await versions_of(service)
    assert (newest.state, oldest.state) == (pb.VERSION_STATE_CORRUPT, pb.VERSION_STATE_SERVING)
    assert "checksum" in newest.problem
    again = await service.refused("PromoteVersion", pb.PromoteVersionRequest(name="main"))
    assert again.reason == "ARTEFACT_CORRUPT"
    assert "checksum" in again.message


async def test_serving_model_is_deleted_by_force_only(service: Service):
    await make_model(service)
    await add_version(service)
    await promote(service)
    refusal = await service.refused("DeleteModel", pb.DeleteModelRequest(name="main"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "MODEL_SERVING")
    assert "main@1 answers Recommend" in refusal.message
    await service.call("DeleteModel", pb.DeleteModelRequest(name="main", force=True))
    gone = await service.refused("GetModel", pb.GetModelRequest(name="main"))
    assert gone.reason == "MODEL_NOT_FOUND"
    (version,) = await versions_of(service, show_deleted=True)
    assert version.state == pb.VERSION_STATE_DELETED
    tenant = await service.deps.tenants.get("a")
    assert await models_of(service).serving(tenant) is None
    assert (await make_model(service)).latest_version == ""
    assert (await add_version(service)).version == "2"


async def test_serving_version_is_deleted_by_force_only(service: Service):
    await make_model(service)
    for seed in range(2):
        await add_version(service, seed=seed)
        await promote(service)
    request = pb.DeleteVersionRequest(name="main", version="2")
    refusal = await service.refused("DeleteVersion", request)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "MODEL_SERVING")
    assert "main@2 answers Recommend" in refusal.message
    request.force = True
    await service.call("DeleteVersion", request)
    found = await model_of(service)
    assert (found.model.serving_version, found.model.latest_version) == ("1", "1")
    assert [version.version for version in await versions_of(service)] == ["1"]
    again = await service.refused("DeleteVersion", request)
    assert again.reason == "VERSION_NOT_FOUND"


async def test_comparison_is_best_first_and_unmeasured_last(service: Service):
    for name in ("a", "b", "c", "empty"):
        await make_model(service, name)
    await add_version(service, "a", metrics={"ndcg@20": 0.1, "recall@20": 0.9})
    await add_version(service, "b", metrics={"ndcg@20": 0.3, "ndcg@20.low": 0.29})
    await add_version(service, "c")

    async def compare(**fields: Any) -> pb.CompareModelsResponse:
        return await service.call("CompareModels", pb.CompareModelsRequest(**fields))

    def shown(answer: pb.CompareModelsResponse) -> list[tuple[str, float | None]]:
        return [
            (
                f"{one.version.model}@{one.version.version}",
                one.value if one.HasField("value") else None,
            )
            for one in answer.versions
        ]

    answer = await compare()
    assert answer.metric == "ndcg@20"
    assert shown(answer) == [("b@1", 0.3), ("a@1", 0.1), ("c@1", None)]
    best = answer.versions[0]
    assert (best.low, best.HasField("high")) == (0.29, False)
    assert shown(await compare(metric="recall@20", versions=["b@1", "a@latest"])) == [
        ("a@1", 0.9),
        ("b@1", None),
    ]
    nothing = shown(await compare(metric="no such metric"))
    assert {value for _, value in nothing} == {None}
    assert len(nothing) == 3


async def test_exported_version_comes_back(service: Service):
    await make_model(service)
    row = await add_version(service, metrics={"ndcg@20": 0.2}, report={"chosen": "item_knn"})
    manifest, artefact = await export(service)
    assert (manifest.model, manifest.version) == ("main", "1")
    assert (manifest.content_hash, manifest.size_bytes) == (row.content_hash, len(artefact))
    assert artefacts_of(service).path(row.content_hash).read_bytes() == artefact
    same = (await send(service, manifest, artefact[:100], artefact[100:])).version
    assert (same.model, same.version, same.state) == ("main", "2", pb.VERSION_STATE_READY)
    manifest.model = "copy"
    copied = (await send(service, manifest, artefact)).version
    original = (await model_of(service)).latest
    assert copied.metrics == original.metrics
    for name in ("statistics", "hyperparameters", "report", "duration", "content_hash"):
        assert getattr(copied, name) == getattr(original, name)
    model = (await model_of(service, "copy")).model
    assert (model.algorithm, model.latest_version) == ("item_knn", "1")
    assert model.hyperparameters["k"] == 500
    assert (await promote(service, "copy")).version.model == "copy"


async def test_client_does_it_all(service: Service, tmp_path: Path):
    async with Client(f"127.0.0.1:{service.port}", tenant="a", timeout=20) as client:
        made = await client.create_model("main", "item_knn", hyperparameters={"k": 20})
        assert [model async for model in client.list_models()] == [made]
        await add_version(service, metrics={"ndcg@20": 0.2})
        assert (await client.promote_version("main")).version.state == "serving"
        path = tmp_path / "main.safetensors"
        assert (await client.export_model("main", path)).version == "1"
        copied = await client.import_model(path, model="copy")
        assert (copied.model, copied.metrics) == ("copy", {"ndcg@20": 0.2})
        compared = await client.compare_models()
        assert {one.version.model for one in compared} == {"main", "copy"}
        operation = await client.train_model("copy")
        assert (await client.get_operation(operation)) == operation
        await client.cancel_operation(operation)
        (watched,) = [one async for one in client.watch_training(operation)]
        assert watched.state == "cancelled"
        with pytest.raises(Cancelled):
            await client.wait_operation(operation)
        assert [one.name async for one in client.list_operations()] == [operation.name]
        await client.delete_model("main", force=True)
        assert [model.name async for model in client.list_models()] == ["copy"]


async def test_altered_artefact_is_not_exported(service: Service):
    await make_model(service)
    row = await add_version(service)
    artefacts_of(service).path(row.content_hash).write_bytes(b"something else")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await export(service)
    refusal: Refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "ARTEFACT_CORRUPT")


async def test_models_are_the_tenants_own(service: Service):
    await service.make_tenant("b")
    await make_model(service)
    await add_version(service)
    await promote(service)
    for method, request in {
        "GetModel": pb.GetModelRequest(name="main"),
        "TrainModel": pb.TrainModelRequest(name="main"),
        "EvaluateModel": pb.EvaluateModelRequest(name="main"),
        "ListVersions": pb.ListVersionsRequest(name="main"),
        "PromoteVersion": pb.PromoteVersionRequest(name="main"),
        "RollbackModel": pb.RollbackModelRequest(name="main"),
        "DeleteModel": pb.DeleteModelRequest(name="main", force=True),
    }.items():
        refusal = await service.refused(method, request, tenant="b")
        assert (method, refusal.reason) == (method, "MODEL_NOT_FOUND")
    assert list((await service.call("ListModels", pb.ListModelsRequest(), "b")).models) == []
    compared = await service.call("CompareModels", pb.CompareModelsRequest(), "b")
    assert list(compared.versions) == []
    clean = pb.CleanUpModelsRequest(keep_versions=1, retention_days=1)
    assert list((await service.call("CleanUpModels", clean, "b")).removed) == []
    await make_model(service, tenant="b")
    assert (await model_of(service, tenant="b")).model.serving_version == ""
    assert (await model_of(service)).model.serving_version == "1"
