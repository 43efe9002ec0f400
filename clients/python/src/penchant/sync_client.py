"""The blocking client."""

from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Self

import grpc

from penchant import calls, errors, responses
from penchant.batches import UPSERT_ROWS, IngestSource, Row, in_rows, joined
from penchant.channel import Endpoint, File, Options, call_metadata, channel_credentials
from penchant.key_calls import SyncKeys
from penchant.privacy_calls import SyncPrivacyCalls
from penchant.stubs import Stubs
from penchant.sync_calls import SyncCall, SyncCaller, SyncConnection, SyncPages
from penchant.sync_models import SyncModelCalls
from penchant.values import BatchAck, BatchUpserted, EntityDraft


class SyncAdmin:
    """The calls of AdminService; they answer with the messages of `penchant.v1.admin_pb2`."""

    def __init__(self, caller: SyncCaller) -> None:
        self.caller = caller

    create_tenant = SyncCall(calls.CREATE_TENANT)
    get_tenant = SyncCall(calls.GET_TENANT)
    list_tenants = SyncPages(calls.LIST_TENANTS)
    update_tenant = SyncCall(calls.UPDATE_TENANT)
    delete_tenant = SyncCall(calls.DELETE_TENANT)
    place_tenant = SyncCall(calls.PLACE_TENANT)
    set_interaction_type = SyncCall(calls.SET_INTERACTION_TYPE)
    list_interaction_types = SyncCall(calls.LIST_INTERACTION_TYPES)
    delete_interaction_type = SyncCall(calls.DELETE_INTERACTION_TYPE)
    get_migration_version = SyncCall(calls.GET_MIGRATION_VERSION)
    list_migrations = SyncCall(calls.LIST_MIGRATIONS)
    run_migrations = SyncCall(calls.RUN_MIGRATIONS)
    get_pool_stats = SyncCall(calls.GET_POOL_STATS)
    get_cache_stats = SyncCall(calls.GET_CACHE_STATS)
    invalidate_cache = SyncCall(calls.INVALIDATE_CACHE)
    get_index_stats = SyncCall(calls.GET_INDEX_STATS)
    list_audit_events = SyncPages(calls.LIST_AUDIT_EVENTS)
    verify_integrity = SyncCall(calls.VERIFY_INTEGRITY)
    get_quotas = SyncCall(calls.GET_QUOTAS)
    set_quotas = SyncCall(calls.SET_QUOTAS)


class SyncClient(SyncModelCalls, SyncPrivacyCalls):
    """The service for threads; one client serves any number of concurrent calls.

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
        self._call_with(SyncConnection(Endpoint(target, credentials, options)), timeout)

    def _call_with(self, connection: SyncConnection, timeout: float) -> None:
        metadata = call_metadata(self._tenant, self._api_key)
        self.caller = SyncCaller(connection, timeout, metadata)
        self.admin = SyncAdmin(self.caller)
        self.keys = SyncKeys(self.caller)

    def using(self, *, tenant: str | None = None, timeout: float | None = None) -> "SyncClient":
        """The same connection for another tenant or with another deadline.

        It ends with the client that it comes from; nothing needs to be closed.
        """
        other = object.__new__(SyncClient)
        other._tenant = self._tenant if tenant is None else tenant
        other._api_key = self._api_key
        other._call_with(
            self.caller.connection, self.caller.timeout if timeout is None else timeout
        )
        return other

    @property
    def stubs(self) -> Stubs:
        """The generated stubs, for what is missing here; give them timeout and metadata."""
        return self.caller.connection.stubs

    def close(self) -> None:
        """Ends the calls under way and closes the connection."""
        self.caller.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    recommend = SyncCall(calls.RECOMMEND)
    recommend_pages = SyncPages(calls.RECOMMEND_PAGES)
    batch_recommend = SyncCall(calls.BATCH_RECOMMEND)
    similar_entities = SyncCall(calls.SIMILAR_ENTITIES)
    similar_users = SyncCall(calls.SIMILAR_USERS)
    recommend_users = SyncCall(calls.RECOMMEND_USERS)
    trending = SyncCall(calls.TRENDING)
    rerank = SyncCall(calls.RERANK)
    get_recommendation = SyncCall(calls.GET_RECOMMENDATION)
    replay_recommendation = SyncCall(calls.REPLAY_RECOMMENDATION)
    explain = SyncCall(calls.EXPLAIN)

    upsert_entity = SyncCall(calls.UPSERT_ENTITY)
    get_entity = SyncCall(calls.GET_ENTITY)
    list_entities = SyncPages(calls.LIST_ENTITIES)
    delete_entity = SyncCall(calls.DELETE_ENTITY)

    ingest = SyncCall(calls.INGEST)
    list_interactions = SyncPages(calls.LIST_INTERACTIONS)
    delete_interactions = SyncCall(calls.DELETE_INTERACTIONS)
    merge_users = SyncCall(calls.MERGE_USERS)

    save_embeddings = SyncCall(calls.SAVE_EMBEDDINGS)
    get_embedding = SyncCall(calls.GET_EMBEDDING)
    list_embeddings = SyncPages(calls.LIST_EMBEDDINGS)
    embedding_stats = SyncCall(calls.GET_EMBEDDING_STATS)
    clean_up_embeddings = SyncCall(calls.CLEAN_UP_EMBEDDINGS)

    forecast_demand = SyncCall(calls.FORECAST_DEMAND)

    def batch_upsert_entities(self, drafts: Iterable[EntityDraft]) -> BatchUpserted:
        """Upserts any number of entities, 1,000 a call.

        A refused row is reported and the others are stored. When a call fails altogether, the
        calls before it have been stored.
        """
        call = calls.BATCH_UPSERT_ENTITIES
        answers: list[BatchUpserted] = []
        for rows in in_rows(drafts, UPSERT_ROWS):
            answer = self.caller.send(call.method, call.build(rows))
            answers.append(call.render(answer))
        return joined(answers, UPSERT_ROWS)

    def ingest_stream(
        self,
        rows: Iterable[Row],
        *,
        batch_size: int = 1000,
        timeout: float = 3600.0,
    ) -> Generator[BatchAck, None, None]:
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
            iter(source), timeout=timeout, metadata=self.caller.metadata
        )
        try:
            for answer in call:
                yield responses.batch_ack(answer)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            call.cancel()
        source.check()
