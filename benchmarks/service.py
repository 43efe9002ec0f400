"""The service on the embedded servers, filled, trained and asked as any caller would: over gRPC."""

import asyncio
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.longrunning.operations_pb2 import (  # type: ignore[import-untyped]
    Operation,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from numpy.typing import NDArray
from penchant.v1 import admin_pb2, interaction_pb2, model_pb2, recommendation_pb2
from penchant.v1.admin_pb2_grpc import AdminServiceStub
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.interaction_pb2_grpc import InteractionServiceStub
from penchant.v1.model_pb2_grpc import ModelServiceStub
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub

from benchmarks.console import Advance
from jobs.context import job_context
from jobs.registry import run_once
from server.logs import configure_logs
from server.processes import running_service
from server.settings import Settings
from storage.config import DatabaseConfig, RedisCacheConfig

TENANT = "bench"
ENTITY_TYPE = "item"
INTERACTION_TYPE = "interaction"
Metadata = tuple[tuple[str, str], ...]
METADATA: Metadata = (("x-tenant-id", TENANT),)

_STREAMS = 4
_BATCH = 5_000
_UNACKNOWLEDGED = 2
_NEVER_SECS = 1e6
_STREAM_SECS = 6 * 3600.0
_SERVED_SECS = 60.0


class Refused(RuntimeError):
    """The service did not do what it was asked."""


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all at once; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def service(
    directory: Path, workers: int, *, metrics_port: int = 0, **changes: Any
) -> AsyncIterator[Settings]:
    """The whole service with its own servers; periodic jobs run at the start and never again.

    Args:
        changes: of other settings.
    """
    settings = Settings(
        port=0,
        metrics_port=metrics_port,
        workers=workers,
        data_dir=directory,
        log_level="error",
        trending_interval_secs=_NEVER_SECS,
        profile_interval_secs=_NEVER_SECS,
        neighbours_interval_secs=_NEVER_SECS,
        placement_interval_secs=_NEVER_SECS,
        quota_interval_secs=_NEVER_SECS,
        retention_interval_secs=_NEVER_SECS,
        # A stream that loads for longer than the usual age must not be cut.
        max_connection_age_secs=_STREAM_SECS,
        database=DatabaseConfig(url=None),
        cache=RedisCacheConfig(url=None),
        **changes,
    )
    configure_logs("auto", "error")
    async with running_service(settings) as actual:
        yield actual


@asynccontextmanager
async def channels(target: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Channels with a connection each: the kernel spreads connections over the workers."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(count)
        ]


async def create_tenant(channel: grpc.aio.Channel) -> None:
    """The tenant, and the type that its interactions have."""
    admin = AdminServiceStub(channel)
    await admin.CreateTenant(
        admin_pb2.CreateTenantRequest(tenant=admin_pb2.Tenant(tenant_id=TENANT))
    )
    await admin.SetInteractionType(
        admin_pb2.SetInteractionTypeRequest(
            tenant_id=TENANT,
            interaction_type=admin_pb2.InteractionType(
                interaction_type=INTERACTION_TYPE, weight=1.0
            ),
        )
    )


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions to ingest.

    Attributes:
        user_names: by code.
        item_names: by code.
        users: int32 (n,), codes.
        items: int32 (n,), codes.
        times: int64 (n,), seconds since 1970.
        weights: float32 (n,); None: each has the weight of its type.
    """

    user_names: Sequence[str]
    item_names: Sequence[str]
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def batches(self, size: int = _BATCH) -> Iterator[interaction_pb2.IngestInteractionsRequest]:
        """Requests of some `size` rows; a user's rows lie together, mostly in one request.

        So a profile is written once. Ids count up: they go to the end of the service's indexes.
        """
        order = np.argsort(self.users, kind="stable")
        refs = [EntityRef(entity_type=ENTITY_TYPE, entity_id=name) for name in self.item_names]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            request = interaction_pb2.IngestInteractionsRequest(sequence=start)
            weights = [None] * len(rows) if self.weights is None else self.weights[rows].tolist()
            for number, (user, item, happened, weight) in enumerate(
                zip(
                    self.users[rows].tolist(),
                    self.items[rows].tolist(),
                    self.times[rows].tolist(),
                    weights,
                    strict=True,
                ),
                start,
            ):
                added = request.interactions.add(
                    interaction_id=f"{number:09}",
                    user_id=self.user_names[user],
                    entity=refs[item],
                    interaction_type=INTERACTION_TYPE,
                    weight=weight,
                )
                added.timestamp.seconds = happened
            yield request


async def ingest(
    open_channels: Sequence[grpc.aio.Channel],
    log: Log,
    advance: Advance,
    metadata: Metadata = METADATA,
) -> None:
    """Streams all batches, a stream a channel; each waits when too much is not acknowledged.

    Raises:
        Refused: a row was, which is named.
        grpc.aio.AioRpcError: a stream ended.
    """
    batches = log.batches()
    done = 0

    async def stream(channel: grpc.aio.Channel) -> None:
        nonlocal done
        places = asyncio.Semaphore(_UNACKNOWLEDGED)

        async def requests() -> AsyncIterator[interaction_pb2.IngestInteractionsRequest]:
            await places.acquire()
            for request in batches:
                yield request
                await places.acquire()

        call = InteractionServiceStub(channel).IngestInteractions(
            requests(), metadata=metadata, timeout=_STREAM_SECS
        )
        async for answer in call:
            places.release()
            if answer.errors:
                error = answer.errors[0]
                raise Refused(
                    f"interaction {answer.sequence + error.index} (ordered by user): "
                    f"{error.field}: {error.message}"
                )
            done += answer.stored_count + answer.duplicate_count
            advance(done)

    await together(stream(channel) for channel in open_channels[:_STREAMS])


async def prepare(settings: Settings, *, everything: bool) -> None:
    """What the jobs make: always what is popular, also what goes together where nothing else is."""
    async with job_context(settings) as context:
        await context.retention.analyze()
        await run_once(context, None if everything else {"trending"})


async def create_model(
    channel: grpc.aio.Channel,
    name: str,
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    metadata: Metadata = METADATA,
) -> None:
    """Names a model whose new versions always serve."""
    model = model_pb2.Model(name=name, algorithm=algorithm, promotion=model_pb2.PROMOTION_ALWAYS)
    ParseDict(dict(hyperparameters), model.hyperparameters)
    await ModelServiceStub(channel).CreateModel(
        model_pb2.CreateModelRequest(model=model), metadata=metadata
    )


async def train(
    channel: grpc.aio.Channel,
    name: str,
    advance: Callable[[float, str], None],
    metadata: Metadata = METADATA,
) -> model_pb2.ModelVersion:
    """Trains a model to its end; told the share that is done and the phase.

    Raises:
        Refused: the training failed, or its version does not serve.
    """
    stub = ModelServiceStub(channel)
    operation = await stub.TrainModel(model_pb2.TrainModelRequest(name=name), metadata=metadata)
    request = model_pb2.WatchTrainingRequest(operation=operation.name)
    while not operation.done:
        try:
            async for operation in stub.WatchTraining(request, metadata=metadata):
                phase = model_pb2.TrainModelMetadata()
                operation.metadata.Unpack(phase)
                advance(phase.share, phase.phase)
        except grpc.aio.AioRpcError as error:
            # Connections have an age; the operation goes on without one.
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(1)
    return _version(operation)


def _version(operation: Operation) -> model_pb2.ModelVersion:
    if operation.HasField("error"):
        raise Refused(f"the training failed: {operation.error.message}")
    response = model_pb2.TrainModelResponse()
    operation.response.Unpack(response)
    if not response.promoted:
        raise Refused(f"the new version does not serve: {response.promotion_note}")
    return response.version


def settings_of(version: model_pb2.ModelVersion) -> dict[str, Any]:
    """Its hyperparameters; whole numbers are integers again, which a Struct does not know."""

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: whole(part) for key, part in value.items()}
        if isinstance(value, list):
            return [whole(part) for part in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    settings: dict[str, Any] = whole(MessageToDict(version.hyperparameters))
    return settings


def recommend_request(user: str, size: int) -> recommendation_pb2.RecommendRequest:
    """A user's list without what the user has seen, and without attributes."""
    request = recommendation_pb2.RecommendRequest(user_id=user, page_size=size)
    request.attribute_mask.SetInParent()
    return request


async def until_served(
    open_channels: Iterable[grpc.aio.Channel],
    user: str,
    version: model_pb2.ModelVersion,
    metadata: Metadata = METADATA,
) -> None:
    """Waits until the worker behind each channel answers from a version.

    Raises:
        Refused: one does not in a minute.
    """
    wanted = f"{version.model}@{version.version}"
    end = time.monotonic() + _SERVED_SECS
    for number, channel in enumerate(open_channels):
        stub = RecommendationServiceStub(channel)
        while True:
            # Another list length each time: an answer out of the cache tells of former times.
            request = recommend_request(user, 1 + (number + int(time.monotonic() * 10)) % 1000)
            answer = await stub.Recommend(request, metadata=metadata, timeout=30)
            if wanted in answer.model_versions:
                break
            if time.monotonic() > end:
                raise Refused(
                    f"Recommend does not answer from {wanted} but from "
                    f"{', '.join(answer.model_versions) or 'no model'}"
                )
            await asyncio.sleep(0.1)
