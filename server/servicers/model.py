"""ModelService."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from penchant.v1 import model_pb2 as pb
from penchant.v1.model_pb2_grpc import ModelServiceServicer

from engine.identifiers import check_page_size
from engine.registry import ModelRegistry
from engine.registry_transfer import ModelTransfers, Sent
from engine.trainings import Trainings
from server.call import tenant_of_call
from server.model_messages import (
    operation_id,
    parse_draft,
    render_algorithm,
    render_compared,
    render_model,
    render_operation,
    render_version,
)
from server.operation_watch import changes
from server.paging import hash_of, key_token, text_key, time_key, time_token
from storage.exceptions import InvalidArgument
from storage.operations import Operation

_DEFAULT_PAGE_SIZE = 50
_Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    """A tenant's models."""

    def __init__(
        self, registry: ModelRegistry, trainings: Trainings, transfers: ModelTransfers
    ) -> None:
        self._registry = registry
        self._trainings = trainings
        self._transfers = transfers

    async def ListAlgorithms(
        self, request: pb.ListAlgorithmsRequest, context: _Context
    ) -> pb.ListAlgorithmsResponse:
        """What a model can be made with."""
        response = pb.ListAlgorithmsResponse()
        for algorithm in await self._registry.algorithms():
            render_algorithm(algorithm, response.algorithms.add())
        return response

    async def CreateModel(
        self, request: pb.CreateModelRequest, context: _Context
    ) -> pb.CreateModelResponse:
        """Names a model."""
        made = await self._registry.create(tenant_of_call(), parse_draft(request.model))
        response = pb.CreateModelResponse()
        render_model(made, response.model)
        return response

    async def GetModel(self, request: pb.GetModelRequest, context: _Context) -> pb.GetModelResponse:
        """One model with its serving and its newest version."""
        found = await self._registry.get(tenant_of_call(), request.name)
        response = pb.GetModelResponse()
        render_model(found.model, response.model)
        if found.serving is not None:
            render_version(found.serving, response.serving)
        if found.latest is not None:
            render_version(found.latest, response.latest)
        return response

    async def ListModels(
        self, request: pb.ListModelsRequest, context: _Context
    ) -> pb.ListModelsResponse:
        """A page of models in byte order."""
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, tenant.tenant_id)
        (after,) = text_key(request.page_token, "models", hashed, 1) or ("",)
        models = await self._registry.page(tenant, after, size + 1, deleted=request.show_deleted)
        response = pb.ListModelsResponse()
        for model in models[:size]:
            render_model(model, response.models.add())
        if len(models) > size:
            response.next_page_token = key_token(
                "models", hashed, [models[size - 1].row.model_name]
            )
        return response

    async def UpdateModel(
        self, request: pb.UpdateModelRequest, context: _Context
    ) -> pb.UpdateModelResponse:
        """Changes the named fields of a model."""
        paths = frozenset(request.update_mask.paths) or None
        changed = await self._registry.update(tenant_of_call(), parse_draft(request.model), paths)
        response = pb.UpdateModelResponse()
        render_model(changed, response.model)
        return response

    async def DeleteModel(
        self, request: pb.DeleteModelRequest, context: _Context
    ) -> pb.DeleteModelResponse:
        """Retires a model and its versions."""
        await self._registry.delete(tenant_of_call(), request.name, force=request.force)
        return pb.DeleteModelResponse()

    async def TrainModel(
        self, request: pb.TrainModelRequest, context: _Context
    ) -> operations_pb2.Operation:
        """Starts a training."""
        return await self._operation(
            await self._trainings.train(
                tenant_of_call(), request.name, incremental=request.incremental
            )
        )

    async def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: _Context
    ) -> AsyncIterator[operations_pb2.Operation]:
        """An operation at once and at every change."""
        wanted = operation_id(request.operation, "operation")
        async with aclosing(changes(self._trainings, tenant_of_call(), wanted)) as operations:
            async for operation in operations:
                yield await self._operation(operation)

    async def CancelTraining(
        self, request: pb.CancelTrainingRequest, context: _Context
    ) -> pb.CancelTrainingResponse:
        """Asks an operation to stop."""
        await self._trainings.cancel(tenant_of_call(), operation_id(request.operation, "operation"))
        return pb.CancelTrainingResponse()

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: _Context
    ) -> pb.ListVersionsResponse:
        """A page of a model's versions, newest first."""
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, tenant.tenant_id)
        versions = await self._registry.versions(
            tenant,
            request.name,
            time_key(request.page_token, "versions", hashed),
            size + 1,
            deleted=request.show_deleted,
        )
        response = pb.ListVersionsResponse()
        for version in versions[:size]:
            render_version(version, response.versions.add())
        if len(versions) > size:
            last = versions[size - 1].row
            response.next_page_token = time_token("versions", hashed, last.created_at, last.version)
        return response

    async def PromoteVersion(
        self, request: pb.PromoteVersionRequest, context: _Context
    ) -> pb.PromoteVersionResponse:
        """Makes a version serve."""
        promoted = await self._registry.promote(
            tenant_of_call(), request.name, request.version, force=request.force
        )
        response = pb.PromoteVersionResponse(previous=promoted.previous)
        render_version(promoted.version, response.version)
        return response

    async def RollbackModel(
        self, request: pb.RollbackModelRequest, context: _Context
    ) -> pb.RollbackModelResponse:
        """Goes back to what served before."""
        promoted = await self._registry.roll_back(tenant_of_call(), request.name)
        response = pb.RollbackModelResponse(previous=promoted.previous)
        render_version(promoted.version, response.version)
        return response

    async def DeleteVersion(
        self, request: pb.DeleteVersionRequest, context: _Context
    ) -> pb.DeleteVersionResponse:
        """Marks a version inactive."""
        await self._registry.delete_version(
            tenant_of_call(), request.name, request.version, force=request.force
        )
        return pb.DeleteVersionResponse()

    async def CleanUpModels(
        self, request: pb.CleanUpModelsRequest, context: _Context
    ) -> pb.CleanUpModelsResponse:
        """Removes old versions, and artefacts that nothing names."""
        gone = await self._registry.clean_up(
            tenant_of_call(),
            request.name,
            request.keep_versions if request.HasField("keep_versions") else None,
            request.retention_days if request.HasField("retention_days") else None,
        )
        return pb.CleanUpModelsResponse(
            removed=gone.removed,
            artefacts_removed=gone.artefacts_removed,
            bytes_freed=gone.bytes_freed,
        )

    async def EvaluateModel(
        self, request: pb.EvaluateModelRequest, context: _Context
    ) -> operations_pb2.Operation:
        """Starts an evaluation."""
        return await self._operation(
            await self._trainings.evaluate(tenant_of_call(), request.name, request.split, request.k)
        )

    async def CompareModels(
        self, request: pb.CompareModelsRequest, context: _Context
    ) -> pb.CompareModelsResponse:
        """Versions side by side."""
        versions, metric = await self._registry.compare(
            tenant_of_call(), request.versions, request.metric
        )
        response = pb.CompareModelsResponse(metric=metric)
        for version in versions:
            render_compared(version, response.versions.add())
        return response

    async def ExportModel(
        self, request: pb.ExportModelRequest, context: _Context
    ) -> AsyncIterator[pb.ExportModelResponse]:
        """A version's manifest, then its artefact."""
        exported = await self._transfers.export(tenant_of_call(), request.name, request.version)
        row = exported.row
        manifest = pb.ModelManifest(
            model=row.model_name,
            version=row.version,
            content_hash=row.content_hash,
            size_bytes=row.size_bytes,
            manifest_json=exported.manifest_json,
        )
        yield pb.ExportModelResponse(manifest=manifest)
        async with aclosing(exported.chunks) as chunks:
            async for chunk in chunks:
                yield pb.ExportModelResponse(chunk=chunk)

    async def ImportModel(
        self, request_iterator: AsyncIterator[pb.ImportModelRequest], context: _Context
    ) -> pb.ImportModelResponse:
        """Makes a version of what ExportModel sent."""
        first = await anext(request_iterator, pb.ImportModelRequest())
        if first.WhichOneof("part") != "manifest":
            raise InvalidArgument.field("manifest", "must come first")
        given = first.manifest
        sent = Sent(given.model, given.content_hash, given.size_bytes, given.manifest_json)
        async with aclosing(_chunks(request_iterator)) as chunks:
            made = await self._transfers.take_in(tenant_of_call(), sent, chunks)
        response = pb.ImportModelResponse()
        render_version(made, response.version)
        return response

    async def _operation(self, operation: Operation) -> operations_pb2.Operation:
        made = await self._registry.made_by(tenant_of_call(), operation)
        return render_operation(operation, made)


async def _chunks(
    messages: AsyncIterator[pb.ImportModelRequest],
) -> AsyncGenerator[bytes, None]:
    async for message in messages:
        if message.WhichOneof("part") != "chunk":
            raise InvalidArgument.field("manifest", "must come once, before the chunks")
        yield message.chunk
