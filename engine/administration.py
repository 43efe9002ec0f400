"""Tenants, their settings and caches: what operators do."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.identifiers import check_id, check_tenant_id, check_weight
from engine.sources import BY_NAME
from engine.tenants import TenantDirectory
from storage.exceptions import FailedPrecondition, FieldViolation, InvalidArgument
from storage.tenants import (
    IndexStats,
    InteractionType,
    MoveProgress,
    Tenant,
    TenantSettings,
    TenantStore,
)
from storage.users import UserStore

DIMENSIONS = (2, 1536)
HALF_LIFE_SECS = (3600.0, 3650 * 86400.0)
DEFAULT_DIMENSION = 512
DEFAULT_HALF_LIFE_SECS = 30 * 86400.0
_UPDATABLE = frozenset({"display_name", "settings"})
_SETTINGS = {
    "unknown_entities": "unknown_entities",
    "trending_window": "trending_window_secs",
    "trending_half_life": "trending_half_life_secs",
    "source_weights": "source_weights",
    "segment_attribute": "segment_attribute",
}
"""Names of settings in the proto and in storage."""


@dataclass(frozen=True, slots=True)
class TenantDraft:
    """A tenant to make or change; None and absent settings stand for defaults.

    Attributes:
        settings: by storage's names, only those that the caller filled.
    """

    tenant_id: str
    display_name: str = ""
    dimension: int | None = None
    profile_half_life_secs: float | None = None
    settings: Mapping[str, Any] | None = None


def check_settings(values: Mapping[str, Any]) -> TenantSettings:
    """Settings within their limits, defaults where absent.

    Raises:
        InvalidArgument: naming every field at fault.
    """
    try:
        settings = TenantSettings.model_validate(dict(values))
    except ValidationError as error:
        proto_names = {stored: name for name, stored in _SETTINGS.items()}
        violations = [
            FieldViolation(
                f"tenant.settings.{proto_names.get(str(e['loc'][0]), str(e['loc'][0]))}", e["msg"]
            )
            for e in error.errors()
        ]
        raise InvalidArgument(
            f"{violations[0].field}: {violations[0].description}", violations=violations
        ) from None
    for source, weight in settings.source_weights.items():
        if source not in BY_NAME:
            raise InvalidArgument.field(
                "tenant.settings.source_weights",
                f"there is no source {source!r}; there are: {', '.join(BY_NAME)}",
            )
        if not (math.isfinite(weight) and 0 <= weight <= 1e6):
            raise InvalidArgument.field(
                "tenant.settings.source_weights", f"{source}: must be finite, and 0 or more"
            )
    if settings.segment_attribute:
        check_id(settings.segment_attribute, "tenant.settings.segment_attribute")
    return settings


def _check_name(value: str) -> str:
    return check_id(value, "tenant.display_name") if value else ""


class Administration:
    """What operators do with tenants."""

    def __init__(self, tenants: TenantDirectory, store: TenantStore, users: UserStore) -> None:
        self._tenants = tenants
        self._store = store
        self._users = users

    async def create_tenant(self, draft: TenantDraft) -> Tenant:
        """Makes a tenant; AlreadyExists when the name is or ever was in use."""
        check_tenant_id(draft.tenant_id, "tenant.tenant_id")
        dimension = DEFAULT_DIMENSION if draft.dimension is None else draft.dimension
        if not DIMENSIONS[0] <= dimension <= DIMENSIONS[1]:
            raise InvalidArgument.field(
                "tenant.dimension", f"must lie within {DIMENSIONS[0]} and {DIMENSIONS[1]}"
            )
        half_life = (
            DEFAULT_HALF_LIFE_SECS
            if draft.profile_half_life_secs is None
            else draft.profile_half_life_secs
        )
        if not HALF_LIFE_SECS[0] <= half_life <= HALF_LIFE_SECS[1]:
            raise InvalidArgument.field(
                "tenant.profile_half_life", "must lie within 1 hour and 3650 days"
            )
        return await self._store.create(
            draft.tenant_id,
            display_name=_check_name(draft.display_name),
            dimension=dimension,
            profile_half_life_secs=half_life,
            settings=check_settings(draft.settings or {}),
        )

    async def get_tenant(self, tenant_id: str) -> Tenant:
        """A tenant as stored now; NotFound when there is none."""
        return await self._store.get(check_tenant_id(tenant_id))

    async def page_of_tenants(self, after: str, limit: int) -> list[Tenant]:
        """Tenants after an id, in byte order."""
        return await self._store.page(after, limit)

    async def update_tenant(self, draft: TenantDraft, paths: frozenset[str] | None) -> Tenant:
        """Changes the named fields; None names those that are filled (AIP-134).

        Raises:
            InvalidArgument: a path that cannot be changed. FailedPrecondition: dimension or
                profile_half_life are set at creation only. NotFound.
        """
        present = await self._store.get(check_tenant_id(draft.tenant_id, "tenant.tenant_id"))
        if draft.dimension not in (None, present.dimension):
            raise FailedPrecondition(
                f"tenant.dimension is {present.dimension} and set at creation only.",
                violations=[FieldViolation("tenant.dimension", "is set at creation only")],
            )
        if draft.profile_half_life_secs not in (None, present.profile_half_life_secs):
            raise FailedPrecondition(
                "tenant.profile_half_life is set at creation only.",
                violations=[FieldViolation("tenant.profile_half_life", "is set at creation only")],
            )
        given = dict(draft.settings or {})
        if paths is None:
            paths = frozenset(
                (["display_name"] if draft.display_name else [])
                + [f"settings.{name}" for name, stored in _SETTINGS.items() if stored in given]
            )
        settings = present.settings.model_dump()
        for path in paths:
            if path == "settings":
                settings = given
            elif path.removeprefix("settings.") in _SETTINGS and path.startswith("settings."):
                stored = _SETTINGS[path.removeprefix("settings.")]
                settings.pop(stored, None)
                settings |= {stored: given[stored]} if stored in given else {}
            elif path not in _UPDATABLE:
                raise InvalidArgument.field(
                    "update_mask", f"names no field that can be changed: {path!r}"
                )
        name = draft.display_name if "display_name" in paths else present.display_name
        return await self._store.update(
            present.tenant_id, display_name=_check_name(name), settings=check_settings(settings)
        )

    async def delete_tenant(self, tenant_id: str) -> None:
        """Refuses a tenant from now on; the jobs delete its rows."""
        await self._store.begin_erasure(check_tenant_id(tenant_id))

    async def set_interaction_type(
        self, tenant_id: str, name: str, weight: float, marks_seen: bool | None
    ) -> InteractionType:
        """Makes or changes an interaction type."""
        check_tenant_id(tenant_id)
        check_id(name, "interaction_type.interaction_type")
        if len(name.encode()) > 63:
            raise InvalidArgument.field(
                "interaction_type.interaction_type", "is longer than 63 bytes"
            )
        check_weight(weight, "interaction_type.weight")
        return await self._store.set_interaction_type(tenant_id, name, weight, marks_seen)

    async def delete_interaction_type(self, tenant_id: str, name: str) -> None:
        """Removes an interaction type; NotFound when absent."""
        check_id(name, "interaction_type")
        await self._store.delete_interaction_type(check_tenant_id(tenant_id), name)

    async def invalidate_user(self, tenant_id: str, user_id: str) -> int:
        """Makes one stored user's cached answers unusable; returns how many users that concerns."""
        check_id(user_id, "user_id")
        return await self._bump(tenant_id, _like_literal(user_id))

    async def invalidate_pattern(self, tenant_id: str, pattern: str) -> int:
        """Like invalidate_user, for users whose id matches a glob of * and ?."""
        check_id(pattern, "pattern")
        like = _like_literal(pattern).replace("*", "%").replace("?", "_")
        return await self._bump(tenant_id, like)

    async def invalidate_all(self, tenant_id: str) -> None:
        """Makes every cached answer of a tenant unusable."""
        await self._store.bump_catalogue((await self.get_tenant(tenant_id)).tenant_id)

    async def request_placement(self, tenant_id: str) -> MoveProgress:
        """Asks for a placement of the tenant's own, and says how far that has got."""
        return await self._store.request_placement(check_tenant_id(tenant_id))

    async def index_stats(self, tenant_id: str) -> IndexStats:
        """Size and use of a tenant's vector index."""
        return await self._store.index_stats(check_tenant_id(tenant_id))

    async def _bump(self, tenant_id: str, like: str) -> int:
        tenant = await self.get_tenant(tenant_id)
        count = await self._tenants.run(tenant, lambda t: self._users.bump(t, like))
        if not count:
            # Users who did nothing yet have answers too, but no row whose revision could change.
            await self._store.bump_catalogue(tenant.tenant_id)
        return count


def _like_literal(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)
