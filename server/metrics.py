"""The service's metrics, and how the parent gathers those of all its processes."""

from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the directory through which the processes share their metrics; read at import."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Seconds(Histogram):
    """A histogram that takes many observations at once."""

    @property
    def bounds(self) -> Sequence[float]:
        """Upper ends of the buckets, ascending; the last is infinite."""
        return self._upper_bounds

    def add(self, counts: Sequence[int], total: float) -> None:
        """Adds observations.

        Args:
            counts: how many fell into each bucket, one number a bound.
            total: the sum of what was observed.
        """
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """The metrics of one worker.

    Args:
        registry: where they are registered; one of their own when None. The parent reads them
            through files, whatever the registry.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.calls = Counter(
            "penchant_calls_total",
            "Calls that ended, by the status they ended with.",
            ["service", "method", "code"],
            registry=self.registry,
        )
        self.seconds = Seconds(
            "penchant_call_seconds",
            "Time from a call's arrival at the edge to its end.",
            ["method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "penchant_calls_in_flight",
            "Calls that are being handled.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.quota_refused = Counter(
            "penchant_quota_refused_total",
            "Calls that were refused because a tenant had used a quota up.",
            ["quota"],
            registry=self.registry,
        )
        self.degraded = Gauge(
            "penchant_degraded",
            "1 while a component is away that the service can do without for a time.",
            ["component"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.audit_failures = Counter(
            "penchant_audit_failures_total",
            "Events that the audit lacks: storage, or rate (refusals beyond what is written).",
            ["cause"],
            registry=self.registry,
        )
        self.tls_expires = Gauge(
            "penchant_tls_certificate_expires_timestamp_seconds",
            "When the certificates of a TLS file in use stop being valid, the earliest of them.",
            ["file"],
            registry=self.registry,
            multiprocess_mode="livemin",
        )


def serve_metrics(port: int, directory: Path, host: str = "127.0.0.1") -> int:
    """Serves the metrics of all processes that share the directory, from a thread of this one.

    Args:
        port: 0 takes a free one.
        directory: their PROMETHEUS_MULTIPROC_DIR.
        host: address to listen on.

    Returns:
        The port.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    server, _ = start_http_server(port, host, registry=registry)
    return int(server.server_port)


def forget_process(pid: int, directory: Path) -> None:
    """Takes a dead process's gauges out of the sums; its counters stay in."""
    mark_process_dead(pid, path=str(directory))  # type: ignore[no-untyped-call]
