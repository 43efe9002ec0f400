"""How a call ended, and the code it ended with."""

import asyncio
import time
from typing import Any

import grpc

from server.call import Call
from server.errors import domain_error, reason_of, status_code
from server.handlers import Context
from server.refusals import Refusal
from storage.exceptions import QuotaExceeded

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""By number."""


class Outcome:
    """How a call ended.

    Args:
        refusal: what it was refused with before it was one; None: it was let in.
        logged: whether it is to have a line in the log.

    Attributes:
        code: its status.
        reason: of an error that its caller is told; else None.
        fault: what must not have happened, for the log; else None.
        quota: the one that refused it; else None.
    """

    def __init__(self, refusal: Refusal | None = None, *, logged: bool = True) -> None:
        self.code = grpc.StatusCode.OK if refusal is None else refusal.code
        self.reason = None if refusal is None else refusal.reason
        self.fault: Exception | None = None
        self.quota: str | None = None
        self.logged = logged

    def failed(self, error: Exception) -> None:
        """Notes the error that ended it."""
        known = domain_error(error)
        if known is None:
            self.reason, self.fault = "INTERNAL", error
        else:
            self.reason = reason_of(known)
        if isinstance(known, QuotaExceeded):
            self.quota, self.logged = known.quota, known.logged


IN_ORDER, UNTOLD = Outcome(), Outcome(logged=False)


def code_after(error: BaseException, call: Call, context: Context) -> grpc.StatusCode:
    """The status that a call ends with after an error."""
    if isinstance(error, grpc.aio.AbortError):
        return code_of(context)
    if isinstance(error, asyncio.CancelledError | grpc.aio.InternalError):
        late = call.deadline is not None and time.monotonic() >= call.deadline
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
    return status_code(domain_error(error) or error)


def code_of(context: Context) -> grpc.StatusCode:
    """The code that a servicer set; grpc gives it as a number or as a member."""
    code: Any = context.code()
    found = code if isinstance(code, grpc.StatusCode) else CODES.get(code)
    return grpc.StatusCode.UNKNOWN if found in {None, grpc.StatusCode.OK} else found
