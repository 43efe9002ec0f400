"""Work for one tenant after the other: the failure of one keeps no other from its turn."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from storage.exceptions import NotFound, PenchantError

_log = structlog.get_logger(__name__)


class TenantTurns:
    """The turns that tenants have in one run of a job.

    Args:
        job: its name, for the log.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._failure: Exception | None = None

    @contextmanager
    def of(self, tenant_id: str) -> Iterator[None]:
        """One tenant's turn: what fails in it is told, and kept for the end."""
        try:
            yield
        except NotFound:
            pass  # its erasure has begun meanwhile
        except PenchantError as error:
            _log.warning("tenant failed", job=self._job, tenant_id=tenant_id, error=error.message)
            self._failure = self._failure or error
        except Exception as error:  # noqa: BLE001 - a bug that one tenant's data brings out
            _log.exception("tenant failed", job=self._job, tenant_id=tenant_id)
            self._failure = self._failure or error

    def end(self) -> None:
        """Raises the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure
