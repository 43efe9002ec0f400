"""InteractionService."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from penchant.v1 import interaction_pb2 as pb
from penchant.v1.common_pb2 import RowError
from penchant.v1.interaction_pb2_grpc import InteractionServiceServicer

from engine.drafts import InteractionDraft
from engine.freshness import latest
from engine.identifiers import check_page_size
from engine.ingest import MAX_BATCH, SESSION_PREFIX, Ack, InteractionLog, subject
from server.call import current_call, tenant_of_call
from server.convert import fill_timestamp, json_to_struct, struct_to_json, to_datetime
from server.errors import row_error
from server.paging import hash_of, time_key, time_token
from storage.exceptions import InvalidArgument, PenchantError
from storage.interactions import InteractionRow

_DEFAULT_PAGE_SIZE = 50
_BATCHES_UNDER_WAY = 4
_BATCHES_STORED_AT_ONCE = 2  # more of a stream wait for each other's users
_FIELD = "interaction."
_SOURCE = ("source_user_id", "source_session_id")
_WHO = (f"{_FIELD}user_id", f"{_FIELD}session_id")
_Context = grpc.aio.ServicerContext[Any, Any]


def parse_interaction(message: pb.Interaction) -> InteractionDraft:
    """The interaction that a message describes."""
    user_id = subject(message.user_id, message.session_id, fields=_WHO)
    entity, has = message.entity, message.HasField
    weight = message.weight if has("weight") else None
    position = message.position if has("position") else None
    metadata, timestamp = None, None
    if has("metadata"):
        metadata = struct_to_json(message.metadata, "interaction.metadata")
    if has("timestamp"):
        timestamp = to_datetime(message.timestamp, "interaction.timestamp")
    # By place: names double what it takes to make one.
    return InteractionDraft(
        user_id, entity.entity_type, entity.entity_id, message.interaction_type,
        message.interaction_id or None, weight, metadata, timestamp,
        message.recommendation_id or None, position,
    )  # fmt: skip


def _parse_row(message: pb.Interaction) -> InteractionDraft | PenchantError:
    try:
        return parse_interaction(message)
    except InvalidArgument as error:
        return error


def _row_error(index: int, error: PenchantError) -> RowError:
    """The error of a row that is an Interaction itself: paths begin within it."""
    row = row_error(index, error)
    row.field = row.field.removeprefix(_FIELD)
    row.message = row.message.removeprefix(_FIELD)
    return row


def _render(row: InteractionRow, target: pb.Interaction) -> None:
    target.interaction_id = row.interaction_id
    if row.user_id.startswith(SESSION_PREFIX):
        target.session_id = row.user_id.removeprefix(SESSION_PREFIX)
    else:
        target.user_id = row.user_id
    target.entity.entity_type, target.entity.entity_id = row.entity_type, row.entity_id
    target.interaction_type, target.weight = row.interaction_type, row.weight
    if row.metadata is not None:
        json_to_struct(row.metadata, target.metadata)
    fill_timestamp(target.timestamp, row.timestamp)
    fill_timestamp(target.received_at, row.received_at)
    target.recommendation_id = row.recommendation_id or ""
    if row.position is not None:
        target.position = row.position


class InteractionServicer(InteractionServiceServicer):
    """Takes what users did."""

    def __init__(self, log: InteractionLog) -> None:
        self._log = log

    async def IngestInteraction(
        self, request: pb.IngestInteractionRequest, context: _Context
    ) -> pb.IngestInteractionResponse:
        """Stores one interaction."""
        ack = await self._log.ingest_one(
            tenant_of_call(), parse_interaction(request.interaction), current_call().deadline
        )
        response = pb.IngestInteractionResponse()
        response.ack.interaction_id = ack.interaction_id
        response.ack.freshness_token = ack.freshness_token
        fill_timestamp(response.ack.received_at, ack.received_at)
        return response

    async def IngestInteractions(
        self, request_iterator: AsyncIterator[pb.IngestInteractionsRequest], context: _Context
    ) -> AsyncIterator[pb.IngestInteractionsResponse]:
        """Stores batches as they come, some at a time, and answers them in order."""
        under_way: asyncio.Queue[asyncio.Task[pb.IngestInteractionsResponse] | None]
        under_way = asyncio.Queue()
        places = asyncio.Semaphore(_BATCHES_UNDER_WAY)
        storing = asyncio.Semaphore(_BATCHES_STORED_AT_ONCE)

        async def read() -> None:
            try:
                await places.acquire()
                async for request in request_iterator:
                    await current_call().turn()
                    under_way.put_nowait(asyncio.create_task(self._batch(request, storing)))
                    await places.acquire()
            finally:
                under_way.put_nowait(None)

        reader = asyncio.create_task(read())
        token = ""
        try:
            while (task := await under_way.get()) is not None:
                answer = await task
                if answer.freshness_token:
                    # Who goes on with the last ack's has been told of all before it.
                    token = latest(tenant_of_call(), (token, answer.freshness_token))
                    answer.freshness_token = token
                yield answer
                places.release()
            await reader
        finally:
            reader.cancel()
            left = [under_way.get_nowait() for _ in range(under_way.qsize())]
            # What was not acknowledged may be stored or not; the caller repeats it with its ids.
            await asyncio.gather(reader, *filter(None, left), return_exceptions=True)

    async def _batch(
        self, request: pb.IngestInteractionsRequest, storing: asyncio.Semaphore
    ) -> pb.IngestInteractionsResponse:
        if not 1 <= len(request.interactions) <= MAX_BATCH:
            raise InvalidArgument.field("interactions", f"must have 1 to {MAX_BATCH} entries")
        drafts = [_parse_row(message) for message in request.interactions]
        async with storing:
            results = await self._log.ingest(tenant_of_call(), drafts)
        acks = [result for result in results if isinstance(result, Ack)]
        duplicates = sum(ack.duplicate for ack in acks)
        return pb.IngestInteractionsResponse(
            sequence=request.sequence,
            stored_count=len(acks) - duplicates,
            duplicate_count=duplicates,
            errors=[
                _row_error(index, result)
                for index, result in enumerate(results)
                if isinstance(result, PenchantError)
            ],
            freshness_token=latest(tenant_of_call(), [ack.freshness_token for ack in acks]),
        )

    async def ListInteractions(
        self, request: pb.ListInteractionsRequest, context: _Context
    ) -> pb.ListInteractionsResponse:
        """A page of interactions, newest first."""
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        of = request.WhichOneof("of")
        if of is None:
            raise InvalidArgument.field("of", "needs user_id, session_id or entity")
        if of != "entity" and not getattr(request, of):
            raise InvalidArgument.field(of, "must not be empty")
        hashed = hash_of(request, tenant.tenant_id)
        rows = await self._log.page(
            tenant,
            user_id="" if of == "entity" else subject(request.user_id, request.session_id),
            entity=(request.entity.entity_type, request.entity.entity_id)
            if of == "entity"
            else None,
            interaction_type=request.interaction_type,
            before=time_key(request.page_token, "interactions", hashed),
            limit=size + 1,
        )
        response = pb.ListInteractionsResponse()
        for row in rows[:size]:
            _render(row, response.interactions.add())
        if len(rows) > size:
            last = rows[size - 1]
            response.next_page_token = time_token(
                "interactions", hashed, last.timestamp, last.interaction_id
            )
        return response

    async def DeleteInteractions(
        self, request: pb.DeleteInteractionsRequest, context: _Context
    ) -> pb.DeleteInteractionsResponse:
        """Removes interactions and rebuilds profiles."""
        count, token = await self._log.delete(
            tenant_of_call(),
            user_id=subject(request.user_id, request.session_id, required=False),
            entity=(request.entity.entity_type, request.entity.entity_id)
            if request.HasField("entity")
            else None,
            interaction_ids=request.interaction_ids,
            before=to_datetime(request.before, "before") if request.HasField("before") else None,
        )
        return pb.DeleteInteractionsResponse(deleted_count=count, freshness_token=token)

    async def MergeUsers(
        self, request: pb.MergeUsersRequest, context: _Context
    ) -> pb.MergeUsersResponse:
        """Moves one user's or session's interactions to another user."""
        if request.WhichOneof("source") is None:
            raise InvalidArgument.field("source", "needs source_user_id or source_session_id")
        count, token = await self._log.merge(
            tenant_of_call(),
            subject(request.source_user_id, request.source_session_id, fields=_SOURCE),
            subject(request.target_user_id, "", fields=("target_user_id", "source_session_id")),
        )
        return pb.MergeUsersResponse(moved_count=count, freshness_token=token)
