"""What happens around every call: admission, deadline, access, tenant, errors, log, metrics."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import grpc
import structlog
from structlog.typing import FilteringBoundLogger

from engine.access import ANONYMOUS
from engine.tenants import TENANT_HEADER
from server.admission import Admission
from server.audit import CallAudit
from server.authentication import Authenticator
from server.call import CURRENT_CALL, Call
from server.errors import to_status
from server.handlers import (
    Context,
    Handler,
    Metadata,
    Rebuilt,
    Work,
    metadata_of,
    rebuild,
    refusing,
)
from server.hot_path import KNOWN, HotPath, Known
from server.methods import Method
from server.metrics import Metrics
from server.outcomes import CODES, IN_ORDER, UNTOLD, Outcome, code_after, code_of
from server.quotas import REQUESTS_PER_SECOND, RequestQuotas
from server.refusals import DETAILS_KEY, Refusal
from server.request_ids import REQUEST_ID_KEY, request_id_of
from storage.exceptions import DeadlineExceeded, InvalidArgument
from storage.tally import Level, Tally
from storage.tenants import Tenant

_NOTICE_SECS = 1.0


class TenantResolver(Protocol):
    """Finds the tenant that a call names."""

    async def resolve(self, tenant_id: str | None) -> Tenant:
        """The tenant of that id; None: the call names none. Raises errors of the domain."""
        ...


class Edge:
    """What is around the methods of all services, of all four kinds.

    Not an interceptor of grpc's: those run again at every call, and find the handler anew.

    Args:
        tenants: finds the tenant of calls to TENANT_SERVICES; None: nobody's tenant is looked up.
        authenticator: knows who calls; None: everybody is anonymous.
        quotas: refuses calls of tenants that make too many; None: nobody's.
        audit: writes down what is administrated; None: nothing is.
        metrics: counts calls and their time.
        max_concurrent_calls: more at a time are refused; health checks go past the limit.
        default_deadline_secs: for unary calls that bring no deadline.
        hot: by method, where its answers may lie ready.
        log: gets a line a call; structlog's when None.
        log_sample: share of the calls in order whose line is written; all at debug, and all that
            fail or administrate.

    Attributes:
        admission: how many calls there are, and whether the worker drains.
    """

    def __init__(
        self,
        tenants: TenantResolver | None,
        metrics: Metrics,
        *,
        max_concurrent_calls: int,
        default_deadline_secs: float,
        authenticator: Authenticator | None = None,
        quotas: RequestQuotas | None = None,
        audit: CallAudit | None = None,
        hot: Mapping[str, HotPath] | None = None,
        log: FilteringBoundLogger | None = None,
        log_sample: float = 1.0,
    ) -> None:
        self.admission = Admission(max_concurrent_calls)
        self._tenants = tenants
        self._metrics = metrics
        self._default_deadline_secs = default_deadline_secs
        self._authenticator = authenticator
        self._quotas = quotas
        self._audit = audit
        self._log: FilteringBoundLogger = log or structlog.get_logger("server.calls")
        self._hot = hot or {}
        self._log_sample = log_sample
        self._rate_refused = Tally(metrics.quota_refused.labels(REQUESTS_PER_SECOND))
        self._in_flight = Level(metrics.in_flight)
        self._full = Refusal.of(self.admission.refusal())
        self._full_noticed = -math.inf

    def around(self, name: str, handler: Handler) -> Rebuilt:
        """The handler of a method with the edge around it.

        Args:
            name: as on the wire, `/package.Service/Method`.
        """
        method = Method(name, handler, self._metrics, self._authenticator)
        hot = self._hot.get(name)
        refused = refusing(lambda context: self._refuse_known(method, context, KNOWN.get()))

        def serve(context: Context, work: Work, known: Known | None = None) -> Awaitable[Any]:
            return self._serve(method, context, work, known)

        def door(metadata: Metadata) -> "Handler | None":
            assert hot is not None
            known = hot.know(metadata, method.scope or "", self.admission)
            KNOWN.set(known)
            return refused if known is not None and known.wait else None

        def ready(raw: bytes, context: Context) -> bytes | Known | None:
            known = KNOWN.get()  # None where there is no door
            if known is not None and not known.holds:
                known = None
            if known is not None and hot is not None and not self.admission.draining:
                answer = self._answer_at_once(hot, method, known, raw, context)
                if answer is not None:
                    return answer
            if self.admission.is_full and not self.admission.draining:
                return self._refuse_full(method, context)
            return known if known is not None and known.wait is not None else None

        may_be_ready = method.is_unary and not method.is_health
        return rebuild(
            handler,
            serve,
            method,
            self.admission,
            ready if may_be_ready else None,
            door if hot is not None else None,
        )

    def _answer_at_once(
        self, hot: HotPath, method: Method, known: Known, raw: bytes, context: Context
    ) -> bytes | None:
        begin = time.perf_counter()
        answer = hot.ready(known, raw)
        if answer is None:
            return None
        if hot.charge(known):
            return self._refuse_known(method, context, known)
        outcome = IN_ORDER if self._is_sampled() else UNTOLD
        if outcome.logged or known.given_id is not None:
            # An id that neither the log nor the caller knows would cost a twentieth of the answer.
            context.set_trailing_metadata(((REQUEST_ID_KEY, known.request_id),))
        self._done_at_once(method, context, known, outcome, time.perf_counter() - begin)
        return answer

    def _refuse_known(self, method: Method, context: Context, known: Known | None) -> bytes:
        """Refuses a call whose tenant's quota has no room for it."""
        begin = time.perf_counter()
        assert known is not None
        assert self._quotas is not None
        refusal = self._quotas.refusal(known.tenant, known.wait or 0.0)
        answer = refusal.give(context, known.request_id)
        self._rate_refused.add()
        outcome = Outcome(refusal, logged=self._quotas.notice(known.tenant))
        self._done_at_once(method, context, known, outcome, time.perf_counter() - begin)
        return answer

    def _done_at_once(
        self, method: Method, context: Context, known: Known, outcome: Outcome, seconds: float
    ) -> None:
        method.count(outcome.code, seconds)
        if outcome.logged:
            call = HotPath.call_of(known, method.name, context, self.admission)
            self._write_line(method, call, outcome, seconds)

    def _refuse_full(self, method: Method, context: Context) -> bytes:
        begin = time.perf_counter()
        request_id, _ = _metadata_of(context)
        answer = self._full.give(context, request_id)
        seconds = time.perf_counter() - begin
        method.count(self._full.code, seconds)
        if begin - self._full_noticed >= _NOTICE_SECS:
            self._full_noticed = begin
            call = Call(request_id, method.name, context.peer(), self.admission)
            self._write_line(method, call, Outcome(self._full), seconds)
        return answer

    async def _serve(
        self, method: Method, context: Context, work: Work, known: Known | None
    ) -> Any:
        begin = time.perf_counter()
        if known is None:
            request_id, tenant_ids = _metadata_of(context)
        else:
            request_id, tenant_ids = known.request_id, {known.tenant.tenant_id}
        call = Call(request_id, method.name, context.peer(), self.admission, quotas=self._quotas)
        CURRENT_CALL.set(call)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        outcome = Outcome()
        admitted = False
        self._in_flight.change(1)
        try:
            if not method.is_health:
                self.admission.enter()
                admitted = True
            if known is not None:
                call.principal, call.tenant = known.principal, known.tenant
            return await self._recorded(method, call, context, tenant_ids, work)
        except (grpc.aio.AbortError, grpc.aio.InternalError, asyncio.CancelledError) as error:
            # The second: the caller was gone when an answer or a status should leave.
            outcome.code = code_after(error, call, context)
            raise
        except Exception as error:  # noqa: BLE001 - here every error becomes a status
            outcome.failed(error)
            if outcome.fault is None:
                # It would hold the request, which may be large, until the status has left.
                error.__traceback__ = None
            if outcome.quota is not None:
                self._metrics.quota_refused.labels(outcome.quota).inc()
            status = to_status(error, request_id)
            outcome.code = CODES[status.code]
            try:
                await context.abort(
                    outcome.code,
                    status.message,
                    ((DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, request_id)),
                )
            except grpc.aio.UsageError:
                # The deadline came while a status of the servicer's own was being sent.
                outcome.code, outcome.fault = code_of(context), None
                raise asyncio.CancelledError from None
        finally:
            if admitted:
                self.admission.leave()
            self._in_flight.change(-1)
            call.forget()
            seconds = time.perf_counter() - begin
            method.count(outcome.code, seconds)
            in_order = outcome.code is grpc.StatusCode.OK and method.audit is None
            if not in_order or self._is_sampled():
                self._write_line(method, call, outcome, seconds)

    async def _recorded(
        self,
        method: Method,
        call: Call,
        context: Context,
        tenant_ids: set[str],
        work: Work,
    ) -> Any:
        """The work, with its event in the audit before the answer leaves."""
        if self._audit is None or method.audit is None:
            return await self._work(method, call, context, tenant_ids, work)
        code, answer = grpc.StatusCode.OK, None
        try:
            answer = await self._work(method, call, context, tenant_ids, work)
        except BaseException as error:
            code = code_after(error, call, context)
            raise
        finally:
            await self._audit.ended(method.audit, call, code, answer)
        return answer

    async def _work(
        self,
        method: Method,
        call: Call,
        context: Context,
        tenant_ids: set[str],
        work: Work,
    ) -> Any:
        left: float | None = context.time_remaining()
        if left is None and method.is_unary:
            left = self._default_deadline_secs
        if left is not None:
            call.deadline = time.monotonic() + left
        scope = asyncio.timeout(left)
        try:
            async with scope:
                if len(tenant_ids) == 1:
                    (call.tenant_id,) = tenant_ids  # known to the log however the call ends
                if call.tenant is None:
                    await self._authorise(method, call, context)
                    await self._find_tenant(method, call, tenant_ids)
                    await self._charge(method, call)
                response = await work()
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded from None
            raise
        if response is None and not method.streams_answers:
            # channelz sets a code and returns nothing, which would not serialise.
            await context.abort(code_of(context), _text(context.details()))
        return response

    async def _authorise(self, method: Method, call: Call, context: Context) -> None:
        if method.scope is None:
            return
        if self._authenticator is not None:
            call.principal = await self._authenticator.authenticate(metadata_of(context))
        if call.tenant_id is None:
            call.tenant_id = call.principal.tenant_id
        call.principal.require(method.scope)

    async def _find_tenant(self, method: Method, call: Call, tenant_ids: set[str]) -> None:
        if len(tenant_ids) > 1:
            raise InvalidArgument.field(TENANT_HEADER, "is given twice with different values")
        if call.tenant_id is not None:
            call.principal.require_tenant(call.tenant_id)
        if method.is_for_tenant and self._tenants is not None:
            call.tenant = await self._tenants.resolve(call.tenant_id)

    async def _charge(self, method: Method, call: Call) -> None:
        if method.streams_requests:
            # A caller that still sends may take an early end for a fault of the connection.
            await call.turn()
        else:
            call.charge(1)

    def _is_sampled(self) -> bool:
        """Whether a call in order gets a line."""
        return random.random() < self._log_sample  # noqa: S311 - no secret

    def _write_line(self, method: Method, call: Call, outcome: Outcome, seconds: float) -> None:
        if outcome.fault is not None:
            write = self._log.error
        elif not outcome.logged:
            return
        elif method.is_health:
            write = self._log.debug
        else:
            write = self._log.info
        facts: dict[str, Any] = {
            "method": call.method,
            "code": outcome.code.name,
            "ms": round(seconds * 1000, 3),
            "request_id": call.request_id,
            "tenant_id": call.shown_tenant,
            "peer": call.peer,
        }
        if call.principal is not ANONYMOUS:
            facts["actor"] = call.principal.actor
        if outcome.reason is not None:
            facts["reason"] = outcome.reason
        if outcome.fault is not None:
            facts["exc_info"] = outcome.fault
        write("call", **facts)


def _metadata_of(context: Context) -> tuple[str, set[str]]:
    """The request id, the caller's if it is sane, and the tenant ids that are given."""
    request_id = None
    tenant_ids = set()
    for key, value in metadata_of(context):
        if key == TENANT_HEADER:
            tenant_ids.add(_text(value))
        elif key == REQUEST_ID_KEY:
            request_id = value
    return request_id_of(request_id), tenant_ids


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
