"""EmbeddingService."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
from penchant.v1 import embedding_pb2 as pb
from penchant.v1.embedding_pb2_grpc import EmbeddingServiceServicer

from engine.embeddings import Embeddings
from engine.identifiers import check_page_size
from server.call import tenant_of_call
from server.convert import fill_timestamp, to_seconds
from server.paging import hash_of, key_token, text_key
from storage.embeddings import FIRST_VERSION, LATEST, EmbeddingRow, NewEmbedding
from storage.exceptions import InvalidArgument

_DEFAULT_PAGE_SIZE = 100
_INLINE_NUMBERS = 50_000  # beyond, copying would hold the event loop for over 5 ms
_Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


def parse_embeddings(messages: Sequence[pb.Embedding]) -> list[NewEmbedding]:
    """The embeddings that messages hold."""
    return [
        NewEmbedding(
            entity_type=message.entity.entity_type,
            entity_id=message.entity.entity_id,
            values=np.fromiter(message.values, np.float32, len(message.values)),
            version=message.version or FIRST_VERSION,
        )
        for message in messages
    ]


def render_embedding(row: EmbeddingRow, target: pb.Embedding) -> None:
    """Fills an Embedding from a stored row."""
    target.entity.entity_type, target.entity.entity_id = row.entity_type, row.entity_id
    target.version = row.version
    target.values.extend(row.values.tolist())
    fill_timestamp(target.update_time, row.updated_at)


def _render_page(rows: Sequence[EmbeddingRow]) -> pb.ListEmbeddingsResponse:
    response = pb.ListEmbeddingsResponse()
    for row in rows:
        render_embedding(row, response.embeddings.add())
    return response


async def _copy(numbers: int, work: Callable[[], T]) -> T:
    """Does work on so many numbers, in a thread where they are many."""
    return work() if numbers <= _INLINE_NUMBERS else await asyncio.to_thread(work)


class EmbeddingServicer(EmbeddingServiceServicer):
    """Keeps vectors that other programs computed."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def SaveEmbeddings(
        self, request: pb.SaveEmbeddingsRequest, context: _Context
    ) -> pb.SaveEmbeddingsResponse:
        """Stores embeddings, all or none."""
        numbers = sum(len(message.values) for message in request.embeddings)
        parsed = await _copy(numbers, lambda: parse_embeddings(request.embeddings))
        saved = await self._embeddings.save(tenant_of_call(), parsed)
        return pb.SaveEmbeddingsResponse(saved=saved)

    async def GetEmbedding(
        self, request: pb.GetEmbeddingRequest, context: _Context
    ) -> pb.GetEmbeddingResponse:
        """One embedding."""
        row = await self._embeddings.get(
            tenant_of_call(),
            request.entity.entity_type,
            request.entity.entity_id,
            request.version or LATEST,
        )
        response = pb.GetEmbeddingResponse()
        render_embedding(row, response.embedding)
        return response

    async def ListEmbeddings(
        self, request: pb.ListEmbeddingsRequest, context: _Context
    ) -> pb.ListEmbeddingsResponse:
        """A page of a set in byte order; later pages stay with the version of the first."""
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, tenant.tenant_id)
        version, after = text_key(request.page_token, "embeddings", hashed, 2) or (
            request.version or LATEST,
            "",
        )
        rows = await self._embeddings.page(
            tenant, request.entity_type, version, after=after, limit=size + 1
        )
        page = rows[:size]
        response = await _copy(sum(len(row.values) for row in page), lambda: _render_page(page))
        if len(rows) > size:
            last = page[-1]
            response.next_page_token = key_token(
                "embeddings", hashed, (last.version, last.entity_id)
            )
        return response

    async def GetEmbeddingStats(
        self, request: pb.GetEmbeddingStatsRequest, context: _Context
    ) -> pb.GetEmbeddingStatsResponse:
        """What each set holds."""
        response = pb.GetEmbeddingStatsResponse()
        for row in await self._embeddings.stats(tenant_of_call()):
            stats = response.stats.add(
                entity_type=row.entity_type,
                version=row.version,
                dimension=row.dimension,
                count=row.embedding_count,
                size_bytes=row.size_bytes,
            )
            fill_timestamp(stats.last_update_time, row.updated_at)
        return response

    async def CleanUpEmbeddings(
        self, request: pb.CleanUpEmbeddingsRequest, context: _Context
    ) -> pb.CleanUpEmbeddingsResponse:
        """Removes a set, or what was not written for a time."""
        tenant = tenant_of_call()
        match request.WhichOneof("what"):
            case "version":
                removed = await self._embeddings.remove_version(
                    tenant, request.entity_type, request.version
                )
            case "older_than":
                removed = await self._embeddings.remove_older(
                    tenant, to_seconds(request.older_than), request.entity_type
                )
            case _:
                raise InvalidArgument.field("version", "is required, or older_than")
        return pb.CleanUpEmbeddingsResponse(removed=removed)
