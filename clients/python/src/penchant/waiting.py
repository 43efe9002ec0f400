"""Waiting for an operation over calls that end sooner than it does."""

import time
from typing import Any

import grpc
from google.longrunning import operations_pb2  # type: ignore[import-untyped]

from penchant import errors, model_responses
from penchant.model_values import Operation

_ONE_CALL_SECS = 20.0
_ANSWER_SECS = 5.0
_FAILURES = 4
_PAUSE_SECS = 0.1


class Patience:
    """How long to wait for an operation, and how often to begin again when a worker stops.

    Args:
        operation: its name.
        timeout: seconds for all of it.
    """

    def __init__(self, operation: str, timeout: float) -> None:
        self.operation = operation
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        self._failures = 0

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._until - time.monotonic())

    @property
    def call_secs(self) -> float:
        """The deadline of one WaitOperation: the wait that it asks for, and time to answer."""
        return min(_ONE_CALL_SECS, self.left) + _ANSWER_SECS

    def ask(self) -> Any:
        """The next WaitOperation's request."""
        request = operations_pb2.WaitOperationRequest(name=self.operation)
        request.timeout.FromNanoseconds(int(min(_ONE_CALL_SECS, self.left) * 1e9))
        return request

    def ended(self, message: Any) -> Operation | None:
        """The operation if it has succeeded; None: ask again.

        Raises:
            PenchantError: it failed or was cancelled, or the time is over.
        """
        operation = model_responses.operation(message)
        if operation.error is not None:
            raise operation.error
        if operation.done:
            return operation
        if not self.left:
            raise errors.DeadlineExceeded(
                f"{self.operation} has not ended after {self._timeout:g} seconds"
            )
        return None

    def heard(self) -> None:
        """Something arrived: later failures count anew."""
        self._failures = 0

    def pause_after(self, error: grpc.RpcError) -> float:
        """Seconds to wait before a watch begins again.

        Raises:
            PenchantError: there is no point in that.
        """
        known = errors.from_rpc_error(error)
        self._failures += 1
        if not isinstance(known, errors.Unavailable) or self._failures > _FAILURES:
            raise known from error
        return min(_PAUSE_SECS * 2.0**self._failures, self.left)
