"""A circuit breaker: what fails is left alone for a while, longer each time, and then tried.

The pattern is Nygard's (Release It!, 2007).
"""

import time

import structlog
from prometheus_client import Counter, Gauge

OPEN = Gauge(
    "penchant_breaker_open",
    "Breakers that are open: the component failed and is left alone.",
    ["component"],
    multiprocess_mode="livesum",
)
CHANGES = Counter(
    "penchant_breaker_changes", "Breakers that opened or closed.", ["component", "state"]
)
"""States: open, closed."""

log = structlog.get_logger(__name__)


class Breaker:
    """Opens after failures in a row, says when the next try is due, and closes after a success.

    Args:
        component: its name in metrics and the log.
        failures: in a row, that open it.
        first_pause_secs: from the opening to the first try; each failed try doubles the pause.
        longest_pause_secs: the longest pause.
    """

    def __init__(
        self,
        component: str,
        *,
        failures: int = 3,
        first_pause_secs: float = 0.5,
        longest_pause_secs: float = 10.0,
    ) -> None:
        self._component = component
        self._limit = failures
        self._first_pause = first_pause_secs
        self._longest_pause = longest_pause_secs
        self._pause = first_pause_secs
        self._failures = 0
        self._next_try = 0.0
        self.closed = True
        # A gauge that was never touched is not exported, and its absence tells nothing.
        OPEN.labels(component)

    @property
    def pause_secs(self) -> float:
        """Seconds until the next try is due; 0 while it is closed."""
        return 0.0 if self.closed else max(0.0, self._next_try - time.monotonic())

    def try_due(self) -> bool:
        """Whether the caller shall try the component: True once a pause while it is open."""
        if self.closed or self.pause_secs > 0:
            return False
        self._next_try = time.monotonic() + self._pause
        return True

    def succeeded(self) -> None:
        """The component answered."""
        self._failures = 0
        self._pause = self._first_pause
        if not self.closed:
            self._change(closed=True)
            log.info("breaker closed", breaker=self._component)

    def failed(self, error: BaseException) -> None:
        """The component did not answer, or wrongly."""
        self._failures += 1
        if self._failures >= self._limit:
            self.trip(error)

    def trip(self, error: BaseException) -> None:
        """Opens at once; or, while it is open, lengthens the pause."""
        if self.closed:
            self._change(closed=False)
            log.warning("breaker opened", breaker=self._component, error=type(error).__name__)
        else:
            self._pause = min(self._pause * 2, self._longest_pause)
        self._next_try = time.monotonic() + self._pause

    def forget(self) -> None:
        """Takes it out of the gauge, when what it guards is closed for good."""
        self._failures = 0
        if not self.closed:
            self._change(closed=True)

    def _change(self, *, closed: bool) -> None:
        self.closed = closed
        OPEN.labels(self._component).inc(-1 if closed else 1)
        CHANGES.labels(self._component, "closed" if closed else "open").inc()
