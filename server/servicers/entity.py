"""EntityService."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from penchant.v1 import entity_pb2 as pb
from penchant.v1.entity_pb2_grpc import EntityServiceServicer

from engine.catalogue import Catalogue
from engine.drafts import EntityDraft
from engine.identifiers import check_page_size
from server.call import tenant_of_call
from server.convert import fill_timestamp, json_to_struct, struct_to_json, to_datetime
from server.errors import row_error
from server.paging import hash_of, key_token, text_key
from storage.entities import EntityRow
from storage.exceptions import InvalidArgument, PenchantError

_ALL_FIELDS = ("attributes", "feature_vector", "hidden", "available_from", "available_until")
_DEFAULT_PAGE_SIZE = 50
_MAX_BATCH = 1000
_Context = grpc.aio.ServicerContext[Any, Any]


def parse_draft(request: pb.UpsertEntityRequest) -> EntityDraft:
    """The entity that a request describes, and the fields that it names or fills (AIP-134)."""
    entity = request.entity
    if request.update_mask.paths:
        paths = list(request.update_mask.paths)
        fields = frozenset(_ALL_FIELDS if "*" in paths else paths)
    else:
        fields = frozenset(
            name
            for name in _ALL_FIELDS
            if (len(entity.feature_vector) if name == "feature_vector" else _filled(entity, name))
        )
    return EntityDraft(
        entity_type=entity.entity.entity_type,
        entity_id=entity.entity.entity_id,
        attributes=struct_to_json(entity.attributes, "entity.attributes")
        if entity.HasField("attributes")
        else None,
        feature_vector=np.asarray(entity.feature_vector, np.float32)
        if entity.feature_vector
        else None,
        hidden=entity.hidden,
        available_from=to_datetime(entity.available_from, "entity.available_from")
        if entity.HasField("available_from")
        else None,
        available_until=to_datetime(entity.available_until, "entity.available_until")
        if entity.HasField("available_until")
        else None,
        fields=fields,
    )


def _filled(entity: pb.Entity, name: str) -> bool:
    return entity.hidden if name == "hidden" else entity.HasField(name)  # type: ignore[arg-type]


def render_entity(row: EntityRow, target: pb.Entity, *, with_vector: bool = False) -> None:
    """Fills an Entity from a stored row."""
    target.entity.entity_type, target.entity.entity_id = row.entity_type, row.entity_id
    target.attributes.SetInParent()
    json_to_struct(row.attributes, target.attributes)
    target.hidden, target.stub = row.hidden, row.stub
    fill_timestamp(target.available_from, row.available_from)
    fill_timestamp(target.available_until, row.available_until)
    fill_timestamp(target.created_at, row.created_at)
    fill_timestamp(target.updated_at, row.updated_at)
    if with_vector and row.feature_vector is not None:
        target.feature_vector.extend(row.feature_vector.tolist())


class EntityServicer(EntityServiceServicer):
    """Keeps a tenant's entities."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def UpsertEntity(
        self, request: pb.UpsertEntityRequest, context: _Context
    ) -> pb.UpsertEntityResponse:
        """Creates or changes one entity."""
        (result,) = await self._catalogue.upsert(tenant_of_call(), [parse_draft(request)])
        if isinstance(result, PenchantError):
            raise result
        response = pb.UpsertEntityResponse(created=result.created)
        render_entity(result.entity, response.entity)
        return response

    async def BatchUpsertEntities(
        self, request: pb.BatchUpsertEntitiesRequest, context: _Context
    ) -> pb.BatchUpsertEntitiesResponse:
        """Creates or changes many entities; bad rows are reported by index."""
        if not 1 <= len(request.requests) <= _MAX_BATCH:
            raise InvalidArgument.field("requests", f"must have 1 to {_MAX_BATCH} entries")
        parsed = [_parse_row(row) for row in request.requests]
        good = [draft for draft in parsed if isinstance(draft, EntityDraft)]
        stored = iter(await self._catalogue.upsert(tenant_of_call(), good) if good else ())
        results = [row if isinstance(row, PenchantError) else next(stored) for row in parsed]
        errors = [
            row_error(index, result)
            for index, result in enumerate(results)
            if isinstance(result, PenchantError)
        ]
        return pb.BatchUpsertEntitiesResponse(
            upserted_count=len(results) - len(errors), errors=errors
        )

    async def GetEntity(
        self, request: pb.GetEntityRequest, context: _Context
    ) -> pb.GetEntityResponse:
        """One entity by name."""
        row = await self._catalogue.get(
            tenant_of_call(), request.entity.entity_type, request.entity.entity_id
        )
        response = pb.GetEntityResponse()
        render_entity(row, response.entity, with_vector=request.include_vector)
        return response

    async def ListEntities(
        self, request: pb.ListEntitiesRequest, context: _Context
    ) -> pb.ListEntitiesResponse:
        """A page of entities in byte order."""
        tenant = tenant_of_call()
        size = check_page_size(request.page_size, _DEFAULT_PAGE_SIZE)
        hashed = hash_of(request, tenant.tenant_id)
        after = text_key(request.page_token, "entities", hashed, 2) or ("", "")
        rows: Sequence[EntityRow] = await self._catalogue.page(
            tenant,
            after=(after[0], after[1]),
            entity_type=request.entity_type,
            filter_text=request.filter,
            limit=size + 1,
        )
        response = pb.ListEntitiesResponse()
        for row in rows[:size]:
            render_entity(row, response.entities.add())
        if len(rows) > size:
            response.next_page_token = key_token("entities", hashed, rows[size - 1].key)
        return response

    async def DeleteEntity(
        self, request: pb.DeleteEntityRequest, context: _Context
    ) -> pb.DeleteEntityResponse:
        """Removes one entity."""
        await self._catalogue.delete(
            tenant_of_call(), request.entity.entity_type, request.entity.entity_id
        )
        return pb.DeleteEntityResponse()


def _parse_row(row: pb.UpsertEntityRequest) -> EntityDraft | PenchantError:
    try:
        return parse_draft(row)
    except InvalidArgument as error:
        return error
