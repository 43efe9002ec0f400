"""Which calls are audited, and what their events say.

Audited is what changes something under the scopes tenant:admin, operator and models:admin, and what
removes or moves what is known of users, however it ends; also ExportModel, which takes a model out.
Of what only reads under these scopes the refusals are.

An event is written when the work is done and before the answer leaves, so what a caller was told is
in the table. A row written beforehand could not say how the call ended, and a table that is only
appended to would need a second one. Work whose process is killed before its event is without one.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.message import Message
from grpc import StatusCode
from penchant.v1.common_pb2 import EntityRef

from engine.access import MODELS, OPERATOR, TENANT_ADMIN
from engine.audit import AuditLog
from engine.identifiers import is_tenant_id
from engine.key_text import is_key_id
from engine.rate import TokenBucket
from engine.tombstones import USER_TYPE
from server.call import Call
from server.logs import redact
from server.method_access import needed_scope
from server.metrics import Metrics
from storage.audit import AuditEntry

_SCOPES = frozenset({TENANT_ADMIN, OPERATOR, MODELS})
_READING = ("Compare", "Get", "List", "Verify", "Wait", "Watch")

TARGETS: dict[str, tuple[str, ...]] = {
    "penchant.v1.AdminService/CreateTenant": (),
    "penchant.v1.AdminService/UpdateTenant": (),
    "penchant.v1.AdminService/DeleteTenant": (),
    "penchant.v1.AdminService/PlaceTenant": (),
    "penchant.v1.AdminService/SetInteractionType": ("interaction_type.interaction_type",),
    "penchant.v1.AdminService/DeleteInteractionType": ("interaction_type",),
    "penchant.v1.AdminService/RunMigrations": (),
    "penchant.v1.AdminService/InvalidateCache": ("user_id", "entity"),
    "penchant.v1.AdminService/SetQuotas": (),
    "penchant.v1.ApiKeyService/CreateApiKey": (),
    "penchant.v1.ApiKeyService/RotateApiKey": ("key_id",),
    "penchant.v1.ApiKeyService/RevokeApiKey": ("key_id",),
    "penchant.v1.EmbeddingService/SaveEmbeddings": (),
    "penchant.v1.EmbeddingService/CleanUpEmbeddings": ("entity_type", "version"),
    "penchant.v1.InteractionService/DeleteInteractions": ("user_id", "session_id", "entity"),
    "penchant.v1.InteractionService/MergeUsers": (
        "source_user_id",
        "source_session_id",
        "target_user_id",
    ),
    "penchant.v1.ModelService/CreateModel": ("model.name",),
    "penchant.v1.ModelService/UpdateModel": ("model.name",),
    "penchant.v1.ModelService/DeleteModel": ("name",),
    "penchant.v1.ModelService/TrainModel": ("name",),
    "penchant.v1.ModelService/CancelTraining": ("operation",),
    "penchant.v1.ModelService/PromoteVersion": ("name", "version"),
    "penchant.v1.ModelService/RollbackModel": ("name",),
    "penchant.v1.ModelService/DeleteVersion": ("name", "version"),
    "penchant.v1.ModelService/CleanUpModels": ("name",),
    "penchant.v1.ModelService/EvaluateModel": ("name",),
    "penchant.v1.ModelService/ExportModel": ("name", "version"),
    "penchant.v1.ModelService/ImportModel": ("manifest.model",),
    "penchant.v1.PrivacyService/EraseUser": ("user_id", "session_id"),
    "penchant.v1.PrivacyService/ReadmitUser": ("user_id", "session_id"),
    "google.longrunning.Operations/CancelOperation": ("name",),
    "google.longrunning.Operations/DeleteOperation": ("name",),
}
"""Every audited method, and the fields of its request that say what it acts on, but the tenant."""

MADE = {
    "penchant.v1.ModelService/ImportModel": ("version.version",),
    "penchant.v1.ApiKeyService/CreateApiKey": ("api_key.key_id",),
    "penchant.v1.ApiKeyService/RotateApiKey": ("api_key.key_id",),
}
"""Fields of answers that name what was made, where the request cannot."""

_TENANT_PATHS = ("tenant_id", "tenant.tenant_id", "api_key.tenant_id")
_USER_FIELDS = frozenset({"user_id", "source_user_id", "target_user_id"})
_SESSION_FIELDS = frozenset({"session_id", "source_session_id"})

_REFUSED = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED})
_LIMITED = _REFUSED | {StatusCode.RESOURCE_EXHAUSTED}
_REFUSALS_A_SECOND = 10.0
_REFUSALS_AT_ONCE = 100.0
_PATIENCE_SECS = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRule:
    """What is audited of a method.

    Attributes:
        refusals_only: it changes nothing, so only who may not call it is of interest.
        asked: fields of the request that name the target.
        made: fields of the answer that do.
    """

    refusals_only: bool
    asked: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


def audit_rule(service: str, method: str) -> AuditRule | None:
    """The rule of a method; None: its calls are not audited."""
    name = f"{service}/{method}"
    if name in TARGETS:
        return AuditRule(False, TARGETS[name], MADE.get(name, ()))
    if needed_scope(service, method) not in _SCOPES:
        return None
    return AuditRule(refusals_only=method.startswith(_READING))


class CallAudit:
    """Writes the events of one worker's calls.

    Refusals are written at a bounded rate, so that callers without rights cannot fill the table.

    Args:
        events: where they go.
        metrics: counts those that were not written.
    """

    def __init__(self, events: AuditLog, metrics: Metrics) -> None:
        self._events = events
        self._lost = metrics.audit_failures
        self._refusals = TokenBucket(_REFUSALS_A_SECOND, _REFUSALS_AT_ONCE, time.monotonic())

    async def ended(self, rule: AuditRule, call: Call, code: StatusCode, answer: Any) -> None:
        """Writes the event of a call; what goes wrong is logged and counted, and ends nothing.

        Args:
            answer: what the caller will be sent; None where there is no one message.
        """
        if rule.refusals_only and code not in _REFUSED:
            return
        if code in _LIMITED and self._refusals.take(1, time.monotonic()):
            self._lost.labels("rate").inc()
            return
        # A call that is cancelled has done what it has done.
        writing = asyncio.create_task(self._write(rule, call, code, answer))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    async def _write(self, rule: AuditRule, call: Call, code: StatusCode, answer: Any) -> None:
        facts = {"method": call.method, "actor": call.principal.actor, "code": code.name}
        try:
            tenant_id = _tenant_of(call)
            made = self._named(tenant_id, answer, rule.made)
            target = redact(" ".join((*self._named(tenant_id, call.asked, rule.asked), *made)))
            facts |= {"tenant_id": tenant_id, "target": target}
            async with asyncio.timeout(_PATIENCE_SECS):
                await self._events.append(
                    AuditEntry(**facts, peer=call.peer, request_id=call.request_id)
                )
        except Exception:  # noqa: BLE001 - whatever hinders the event, the call has its outcome
            self._lost.labels("storage").inc()
            _log.exception("audit event not written", **facts)

    def _named(self, tenant_id: str, message: Any, paths: Iterable[str]) -> Iterable[str]:
        for path in paths if isinstance(message, Message) else ():
            value, name = _at(message, path), path.rpartition(".")[2]
            if isinstance(value, EntityRef):
                if value.entity_type == USER_TYPE and value.entity_id:
                    yield f"{USER_TYPE}/{self._events.user(tenant_id, value.entity_id)}"
                elif value.entity_type or value.entity_id:
                    yield f"{value.entity_type}/{value.entity_id}"
            elif not value:
                continue
            elif name in _USER_FIELDS:
                yield self._events.user(tenant_id, value)
            elif name in _SESSION_FIELDS:
                yield self._events.user(tenant_id, f"session:{value}")
            elif name != "key_id" or is_key_id(value):
                # What is sent as a key_id by mistake may be a whole key.
                yield str(value)


def _tenant_of(call: Call) -> str:
    """Whom the call concerned: as it was resolved, else named, else its key's."""
    named = "" if call.tenant is not None or call.asked is None else named_tenant(call.asked)
    return named or call.shown_tenant or call.principal.tenant_id or ""


def named_tenant(request: Message) -> str:
    """The tenant that a request names; empty: none, or a text that is no tenant's id."""
    found = (_at(request, path) for path in _TENANT_PATHS)
    return next((name for name in found if isinstance(name, str) and is_tenant_id(name)), "")


def _at(message: Message, path: str) -> Any:
    """The value at a path; None where the message has no such field."""
    found: Any = message
    for name in path.split("."):
        if not isinstance(found, Message) or name not in found.DESCRIPTOR.fields_by_name:
            return None
        found = getattr(found, name)
    return found
