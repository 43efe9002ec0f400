"""Entities in and out: drafts are checked, given a feature vector and stored."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.drafts import EntityDraft
from engine.features import extract_features, validate_vector
from engine.filters.compiler import compile_filter
from engine.identifiers import Json, check_attributes_size, check_depth, check_id
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones, user_erased
from storage.entities import Change, EntityKey, EntityRow, EntityStore
from storage.exceptions import InvalidArgument, NotFound, PenchantError
from storage.tenants import Tenant

_ATTRIBUTE = re.compile(r"attributes\..", re.DOTALL)
_FIELDS = {"attributes", "feature_vector", "hidden", "available_from", "available_until"}
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NUMBERED_AT_ONCE = 1000
_INLINE_ROWS = 20  # beyond, extraction would hold the event loop for over 5 ms


@dataclass(frozen=True, slots=True)
class Upserted:
    """A stored entity, and whether it is new."""

    entity: EntityRow
    created: bool


def check_key(entity_type: str, entity_id: str, field: str = "entity") -> EntityKey:
    """An entity's name, checked."""
    return (
        check_id(entity_type, f"{field}.entity_type"),
        check_id(entity_id, f"{field}.entity_id"),
    )


def encode_json(value: Mapping[str, Json], field: str) -> str:
    """JSON text of attributes or metadata within the limits, keys in one order."""
    check_depth(value, field=field)
    try:
        # A repeated message must give the same text, and protobuf's maps have no order.
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidArgument.field(field, f"is no JSON: {error}") from None
    if _NUL.search(encoded):
        raise InvalidArgument.field(field, "holds a NUL character")
    return check_attributes_size(encoded, field).decode()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A checked draft; `features` are those of its attributes alone, None when they say nothing."""

    draft: EntityDraft
    attributes: str | None
    features: NDArray[np.float32] | None
    given: NDArray[np.float32] | None


def _prepare(draft: EntityDraft, dimension: int) -> _Prepared:
    check_key(draft.entity_type, draft.entity_id, "entity.entity")
    for name in draft.fields:
        if name not in _FIELDS and not _ATTRIBUTE.match(name):
            raise InvalidArgument.field(
                "update_mask", f"names no field that can be changed: {name!r}"
            )
    if (
        draft.available_from is not None
        and draft.available_until is not None
        and draft.available_until <= draft.available_from
    ):
        raise InvalidArgument.field("entity.available_until", "must be after available_from")
    attributes = features = given = None
    if draft.attributes is not None:
        attributes = encode_json(draft.attributes, "entity.attributes")
        features = extract_features(draft.attributes, dimension)
    if draft.feature_vector is not None and "feature_vector" in draft.fields:
        if len(draft.feature_vector) != dimension:
            raise InvalidArgument.field(
                "entity.feature_vector",
                f"has dimension {len(draft.feature_vector)}; the tenant's is {dimension}",
                reason="DIMENSION_MISMATCH",
            )
        given = validate_vector(draft.feature_vector, dimension, "entity.feature_vector")
    return _Prepared(draft, attributes, features, given)


def _merge_attributes(
    present: str, new: _Prepared, dimension: int
) -> tuple[str, NDArray[np.float32] | None, bool]:
    """The attributes' new JSON text, their features, and whether they change at all."""
    draft = new.draft
    if "attributes" in draft.fields:
        return new.attributes or "{}", new.features, True
    keys = [
        name.removeprefix("attributes.") for name in draft.fields if name.startswith("attributes.")
    ]
    if not keys:
        return present, None, False
    given = draft.attributes or {}
    merged = orjson.loads(present)
    for key in keys:
        if key in given:
            merged[key] = given[key]
        else:
            merged.pop(key, None)
    return encode_json(merged, "entity.attributes"), extract_features(merged, dimension), True


def _merge(present: EntityRow | None, new: _Prepared, dimension: int) -> EntityRow:
    draft = new.draft
    row = present or EntityRow(draft.entity_type, draft.entity_id)
    vector, given = row.feature_vector, row.vector_given
    attributes, features, changed = _merge_attributes(row.attributes, new, dimension)
    if "feature_vector" in draft.fields:
        given = new.given is not None
        if not given and not changed:
            features, changed = extract_features(orjson.loads(attributes), dimension), True
    if new.given is not None:
        vector = new.given.astype(np.float16)
    elif changed and not given:
        vector = None if features is None else features.astype(np.float16)
    row = replace(row, attributes=attributes, feature_vector=vector, vector_given=given)
    if "hidden" in draft.fields:
        row = replace(row, hidden=draft.hidden)
    if "available_from" in draft.fields:
        row = replace(row, available_from=draft.available_from)
    if "available_until" in draft.fields:
        row = replace(row, available_until=draft.available_until)
    if row.available_from and row.available_until and row.available_until <= row.available_from:
        raise InvalidArgument.field("entity.available_until", "must be after available_from")
    return row


class _Changes:
    """The drafts of one name in their order, and which of them were refused when applied."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self.drafts: list[tuple[int, _Prepared]] = []
        self.refused: dict[int, PenchantError] = {}

    def __call__(self, present: EntityRow | None) -> EntityRow | None:
        row = present
        self.refused.clear()  # a repeated transaction asks again
        for index, draft in self.drafts:
            try:
                row = _merge(row, draft, self._dimension)
            except InvalidArgument as error:
                self.refused[index] = error
        return row if len(self.refused) < len(self.drafts) else None


class Catalogue:
    """A tenant's entities."""

    def __init__(
        self, tenants: TenantDirectory, entities: EntityStore, tombstones: Tombstones
    ) -> None:
        self._tenants = tenants
        self._entities = entities
        self._tombstones = tombstones

    async def upsert(
        self, tenant: Tenant, drafts: Sequence[EntityDraft]
    ) -> list[Upserted | PenchantError]:
        """Stores drafts in one transaction; what is wrong with one of them is its result."""
        results: dict[int, Upserted | PenchantError] = {}
        prepare = self._prepare_all
        prepared = (
            prepare(drafts, tenant.dimension)
            if len(drafts) <= _INLINE_ROWS
            else await asyncio.to_thread(prepare, drafts, tenant.dimension)
        )
        changes: dict[EntityKey, _Changes] = {}
        for index, item in enumerate(prepared):
            if isinstance(item, _Prepared):
                key = (item.draft.entity_type, item.draft.entity_id)
                changes.setdefault(key, _Changes(tenant.dimension)).drafts.append((index, item))
            else:
                results[index] = item
        if changes:
            by_key: dict[EntityKey, Change] = dict(changes)
            stored = await self._tenants.run(
                tenant, lambda t: self._entities.apply(t, by_key, self._user_hashes(t, by_key))
            )
            for key, change in changes.items():
                results.update(change.refused)
                for index, _ in change.drafts:
                    if index not in change.refused:
                        results[index] = Upserted(*stored[key]) if key in stored else user_erased()
        return [results[index] for index in range(len(drafts))]

    def _user_hashes(self, tenant: Tenant, keys: Iterable[EntityKey]) -> dict[EntityKey, bytes]:
        if not tenant.has_erased_users:
            return {}
        found = ((key, self._tombstones.hash_entity(tenant.tenant_id, *key)) for key in keys)
        return {key: hashed for key, hashed in found if hashed is not None}

    @staticmethod
    def _prepare_all(
        drafts: Sequence[EntityDraft], dimension: int
    ) -> list[_Prepared | PenchantError]:
        prepared: list[_Prepared | PenchantError] = []
        for draft in drafts:
            try:
                prepared.append(_prepare(draft, dimension))
            except InvalidArgument as error:
                prepared.append(error)
        return prepared

    async def numbers(self, tenant: Tenant, keys: Sequence[EntityKey]) -> dict[EntityKey, int]:
        """The numbers of entities by name; names that do not exist are absent."""
        found: dict[EntityKey, int] = {}
        for start in range(0, len(keys), _NUMBERED_AT_ONCE):
            some = keys[start : start + _NUMBERED_AT_ONCE]
            rows = await self._tenants.run(tenant, partial(self._read, some))
            found |= {key: row.entity_no for key, row in rows.items()}
        return found

    async def _read(self, keys: Sequence[EntityKey], tenant: Tenant) -> dict[EntityKey, EntityRow]:
        return await self._entities.get(tenant, keys)

    async def get(self, tenant: Tenant, entity_type: str, entity_id: str) -> EntityRow:
        """One entity with its vector.

        Raises:
            NotFound: ENTITY_NOT_FOUND.
        """
        key = check_key(entity_type, entity_id)
        found = await self._tenants.run(tenant, lambda t: self._entities.get(t, [key]))
        if key not in found:
            raise not_found(key)
        return found[key]

    async def page(
        self,
        tenant: Tenant,
        *,
        after: EntityKey,
        entity_type: str,
        filter_text: str,
        limit: int,
    ) -> list[EntityRow]:
        """Entities after a name in byte order, hidden ones included."""
        if entity_type:
            check_id(entity_type, "entity_type")
        compiled = compile_filter(filter_text)
        return await self._tenants.run(
            tenant,
            lambda t: self._entities.page(
                t,
                after=after,
                entity_type=entity_type or None,
                filter_path=compiled.path if compiled else None,
                filter_variables=compiled.variables if compiled else None,
                limit=limit,
            ),
        )

    async def delete(self, tenant: Tenant, entity_type: str, entity_id: str) -> None:
        """Removes an entity.

        Raises:
            NotFound: ENTITY_NOT_FOUND.
        """
        key = check_key(entity_type, entity_id)
        if not await self._tenants.run(tenant, lambda t: self._entities.delete(t, key)):
            raise not_found(key)


def not_found(key: EntityKey) -> NotFound:
    """The error for an entity that the tenant does not have."""
    return NotFound(
        f"There is no entity {key[1]!r} of type {key[0]!r}.",
        reason="ENTITY_NOT_FOUND",
        metadata={"entity_type": key[0], "entity_id": key[1]},
    )
