"""What is known of a method before a call: who may call it, for whom, and how it is counted."""

from typing import Any

import grpc

from engine.access import OPERATOR
from server.audit import audit_rule, named_tenant
from server.authentication import Authenticator
from server.call import current_call
from server.handlers import Handler
from server.method_access import needed_scope, tenant_check
from server.metrics import Metrics
from storage.tally import Tally, TimeTally

HEALTH_SERVICE = "grpc.health.v1.Health"
TENANT_SERVICES = frozenset(
    {
        "penchant.v1.RecommendationService",
        "penchant.v1.InteractionService",
        "penchant.v1.EntityService",
        "penchant.v1.ModelService",
        "penchant.v1.EmbeddingService",
        "penchant.v1.DemandService",
        "penchant.v1.PrivacyService",
        "google.longrunning.Operations",
    }
)
"""Services whose every call acts for one tenant, unless it is the operator's."""


class Method:
    """One method, with what is around its calls.

    Args:
        name: as on the wire, without the first slash or with it.
        handler: of gRPC.
        authenticator: knows whether a credential still holds; None: there are none.
    """

    def __init__(
        self, name: str, handler: Handler, metrics: Metrics, authenticator: Authenticator | None
    ) -> None:
        self.name = name
        self.service, _, self.short_name = name.removeprefix("/").rpartition("/")
        self.is_health = self.service == HEALTH_SERVICE
        self.streams_requests = handler.request_streaming
        self.streams_answers = handler.response_streaming
        self.is_unary = not (handler.request_streaming or handler.response_streaming)
        self.scope = needed_scope(self.service, self.short_name)
        self.is_for_tenant = self.service in TENANT_SERVICES and self.scope != OPERATOR
        self.audit = audit_rule(self.service, self.short_name)
        self._check_tenant = tenant_check(self.service, self.short_name)
        self._authenticator = authenticator
        self._seconds = TimeTally(metrics.seconds.labels(name))
        self._metric = metrics.calls
        self._calls: dict[grpc.StatusCode, Tally] = {}

    def admit(self, message: Any) -> None:
        """Refuses a message that names a tenant which is not the caller's."""
        call = current_call()
        if self.audit is not None and call.asked is None:
            call.asked = message
        self.go_on()
        if self._check_tenant is not None:
            if call.tenant_id is None:
                call.tenant_id = named_tenant(message) or None
            self._check_tenant(message, call.principal)

    def go_on(self) -> None:
        """Ends a stream whose key or token has ended since it began."""
        if self._authenticator is not None and self.scope is not None and not self.is_unary:
            self._authenticator.check_still(current_call().principal)

    def count(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call that has ended."""
        calls = self._calls.get(code)
        if calls is None:
            calls = Tally(self._metric.labels(self.service, self.short_name, code.name))
            self._calls[code] = calls
        calls.add()
        self._seconds.observe(seconds)
