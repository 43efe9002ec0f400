"""The asyncio client."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from types import TracebackType
from typing import Self

import grpc

from penchant import calls, errors, responses
from penchant.async_calls import AsyncCall, AsyncCaller, AsyncConnection, AsyncPages
from penchant.async_models import AsyncModelCalls
from penchant.batches import UPSERT_ROWS, IngestSource, Row, in_rows, joined
from penchant.channel import Endpoint, File, Options, call_metadata, channel_credentials
from penchant.key_calls import Keys
from penchant.privacy_calls import AsyncPrivacyCalls
from penchant.stubs import AsyncStubs
from penchant.values import BatchAck, BatchUpserted, EntityDraft


class Admin:
    """The calls of AdminService; they answer with the messages of `penchant.v1.admin_pb2`."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller

    create_tenant = AsyncCall(calls.CREATE_TENANT)
    get_tenant = AsyncCall(calls.GET_TENANT)
    list_tenants = AsyncPages(calls.LIST_TENANTS)
    update_tenant = AsyncCall(calls.UPDATE_TENANT)
    delete_tenant = AsyncCall(calls.DELETE_TENANT)
    place_tenant = AsyncCall(calls.PLACE_TENANT)
    set_interaction_type = AsyncCall(calls.SET_INTERACTION_TYPE)
    list_interaction_types = AsyncCall(calls.LIST_INTERACTION_TYPES)
    delete_interaction_type = AsyncCall(calls.DELETE_INTERACTION_TYPE)
    get_migration_version = AsyncCall(calls.GET_MIGRATION_VERSION)
    list_migrations = AsyncCall(calls.LIST_MIGRATIONS)
    run_migrations = AsyncCall(calls.RUN_MIGRATIONS)
    get_pool_stats = AsyncCall(calls.GET_POOL_STATS)
    get_cache_stats = AsyncCall(calls.GET_CACHE_STATS)
    invalidate_cache = AsyncCall(calls.INVALIDATE_CACHE)
    get_index_stats = AsyncCall(calls.GET_INDEX_STATS)
    list_audit_events = AsyncPages(calls.LIST_AUDIT_EVENTS)
    verify_integrity = AsyncCall(calls.VERIFY_INTEGRITY)
    get_quotas = AsyncCall(calls.GET_QUOTAS)
    set_quotas = AsyncCall(calls.SET_QUOTAS)


class Client(AsyncModelCalls, AsyncPrivacyCalls):
    """The service for asyncio; one client serves any number of concurrent calls of its loop.

    Calls that may be repeated are, up to four times within their deadline, when the service is
    UNAVAILABLE. Every failure is a subclass of `penchant.PenchantError`.

    Args:
        target: a gRPC target, such as `host:port` or `dns:///name:port`.
        tenant: whose data; may be None where there is one tenant or the key names it.
        api_key: sent as a bearer token.
        timeout: the deadline of each call with its repetitions, in seconds.
        tls: False for plain text, True for the system's certificate authorities, or credentials.
        root_certificates: PEM file of the authorities to trust in their place; TLS is then on.
        certificate: PEM file with the client's own certificate chain, for mutual TLS.
        key: PEM file with that certificate's private key.
        options: gRPC channel arguments; they win over the client's own.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        tenant: str | None = None,
        api_key: str | None = None,
        timeout: float = 5.0,
        tls: bool | grpc.ChannelCredentials = False,
        root_certificates: File | None = None,
        certificate: File | None = None,
        key: File | None = None,
        options: Options = (),
    ) -> None:
        self._tenant = tenant
        self._api_key = api_key
        credentials = channel_credentials(tls, root_certificates, certificate, key)
        self._call_with(AsyncConnection(Endpoint(target, credentials, options)), timeout)

    def _call_with(self, connection: AsyncConnection, timeout: float) -> None:
        metadata = call_metadata(self._tenant, self._api_key)
        self.caller = AsyncCaller(connection, timeout, metadata)
        self.admin = Admin(self.caller)
        self.keys = Keys(self.caller)

    def using(self, *, tenant: str | None = None, timeout: float | None = None) -> "Client":
        """The same connection for another tenant or with another deadline.

        It ends with the client that it comes from; nothing needs to be closed.
        """
        other = object.__new__(Client)
        other._tenant = self._tenant if tenant is None else tenant
        other._api_key = self._api_key
        other._call_with(
            self.caller.connection, self.caller.timeout if timeout is None else timeout
        )
        return other

    @property
    def stubs(self) -> AsyncStubs:
        """The generated stubs, for what is missing here; give them timeout and metadata."""
        return self.caller.connection.stubs

    async def close(self) -> None:
        """Ends the calls under way and closes the connection."""
        await self.caller.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    recommend = AsyncCall(calls.RECOMMEND)
    recommend_pages = AsyncPages(calls.RECOMMEND_PAGES)
    batch_recommend = AsyncCall(calls.BATCH_RECOMMEND)
    similar_entities = AsyncCall(calls.SIMILAR_ENTITIES)
    similar_users = AsyncCall(calls.SIMILAR_USERS)
    recommend_users = AsyncCall(calls.RECOMMEND_USERS)
    trending = AsyncCall(calls.TRENDING)
    rerank = AsyncCall(calls.RERANK)
    get_recommendation = AsyncCall(calls.GET_RECOMMENDATION)
    replay_recommendation = AsyncCall(calls.REPLAY_RECOMMENDATION)
    explain = AsyncCall(calls.EXPLAIN)

    upsert_entity = AsyncCall(calls.UPSERT_ENTITY)
    get_entity = AsyncCall(calls.GET_ENTITY)
    list_entities = AsyncPages(calls.LIST_ENTITIES)
    delete_entity = AsyncCall(calls.DELETE_ENTITY)

    ingest = AsyncCall(calls.INGEST)
    list_interactions = AsyncPages(calls.LIST_INTERACTIONS)
    delete_interactions = AsyncCall(calls.DELETE_INTERACTIONS)
    merge_users = AsyncCall(calls.MERGE_USERS)

    save_embeddings = AsyncCall(calls.SAVE_EMBEDDINGS)
    get_embedding = AsyncCall(calls.GET_EMBEDDING)
    list_embeddings = AsyncPages(calls.LIST_EMBEDDINGS)
    embedding_stats = AsyncCall(calls.GET_EMBEDDING_STATS)
    clean_up_embeddings = AsyncCall(calls.CLEAN_UP_EMBEDDINGS)

    forecast_demand = AsyncCall(calls.FORECAST_DEMAND)

    async def batch_upsert_entities(self, drafts: Iterable[EntityDraft]) -> BatchUpserted:
        """Upserts any number of entities, 1,000 a call.

        A refused row is reported and the others are stored. When a call fails altogether, the
        calls before it have been stored.
        """
        call = calls.BATCH_UPSERT_ENTITIES
        answers: list[BatchUpserted] = []
        for rows in in_rows(drafts, UPSERT_ROWS):
            answer = await self.caller.send(call.method, call.build(rows))
            answers.append(call.render(answer))
        return joined(answers, UPSERT_ROWS)

    async def ingest_stream(
        self,
        rows: Iterable[Row] | AsyncIterable[Row],
        *,
        batch_size: int = 1000,
        timeout: float = 3600.0,  # noqa: ASYNC109 - a deadline that the service is told
    ) -> AsyncGenerator[BatchAck, None]:
        """Streams interactions; each batch is acknowledged, in order, once it is committed.

        Read the acks to the end: what is sent ahead of them is bounded by flow control. After an
        error send again what was not acknowledged; rows stored before count as duplicates.

        Args:
            rows: interactions, gathered into batches; or ready batches of up to 10,000.
            batch_size: how many single interactions make a batch.
            timeout: the deadline of the whole stream, in seconds.
        """
        source = IngestSource(rows, batch_size)
        call = self.stubs.interaction.IngestInteractions(
            aiter(source), timeout=timeout, metadata=self.caller.metadata
        )
        try:
            async for answer in call:
                yield responses.batch_ack(answer)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            call.cancel()
        source.check()
