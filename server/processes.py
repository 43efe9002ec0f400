"""The parent process: backends, workers and jobs, started, watched and stopped, without gRPC."""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from server.backends import backends, bootstrap, has_keys
from server.certificates import check_tls
from server.children import Child
from server.key_sets import check_key_set, is_url
from server.listening import OPEN_WARNING, is_wildcard, listening_host
from server.metrics import MULTIPROCESS_VARIABLE, forget_process, serve_metrics
from server.metrics_folder import metrics_folder
from server.settings import Settings
from server.stopping import Stopped, StopSignal
from server.transfer import write_settings
from storage.version_relay import relaying
from storage.version_slots import VersionSlots

_POLL_SECS = 0.1

_ALLOCATOR = {
    # By its own rules glibc keeps an arena a thread, and with each up to 64 MiB that are free. The
    # threads that read messages of some MiB left 200 MiB so (docs/performance.md).
    "MALLOC_ARENA_MAX": "4",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
}

NO_READY_ANSWERS = (
    "workers keep no ready answers: other hosts may share DATABASE_URL, and no REDIS_URL is set to "
    "hear of them; PENCHANT_SEVERAL_HOSTS=false if there are none"
)

_log = structlog.get_logger(__name__)


class PortTaken(OSError):
    """A port cannot be listened on; the message names it, why, and its setting."""

    def __init__(self, host: str, port: int, error: OSError, remedy: str) -> None:
        reason = error.strerror or str(error)
        super().__init__(f"cannot listen on {host}:{port}: {reason}; {remedy}")


@asynccontextmanager
async def reserved_port(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose port is a number: a bound socket that never listens keeps it for the workers.

    A port whose former workers are about to stop is waited for.

    Raises:
        PortTaken: another program has it, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    host = settings.host.strip("[]")
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            if settings.port:
                await _until_free(family, host, settings.port, settings.shutdown_grace_secs)
            holder.bind((host, settings.port))
        except OSError as error:
            raise PortTaken(
                settings.host, settings.port, error, "see PENCHANT_HOST and PENCHANT_PORT"
            ) from error
        yield settings.model_copy(update={"port": holder.getsockname()[1]})


async def _until_free(
    family: socket.AddressFamily, host: str, port: int, longest_secs: float
) -> None:
    """Two services on one port would share the calls: SO_REUSEPORT refuses neither."""
    end = time.monotonic() + longest_secs
    told = False
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections that linger from before do not count, listeners do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                    raise
            else:
                return
        if not told:
            _log.warning("port is taken; waiting", port=port, longest_secs=longest_secs)
            told = True
        await asyncio.sleep(_POLL_SECS)


@asynccontextmanager
async def guarded_host(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose host may be listened on: loopback while everybody is anonymous.

    Raises:
        PortTaken: another program has the port there.
    """
    host = listening_host(settings, settings.jwt_jwks is not None)
    if host == settings.host or await has_keys(settings):
        yield settings
        return
    _log.warning(OPEN_WARNING, host=host, asked_for=settings.host)
    guarded = settings.model_copy(update={"host": host})
    if is_wildcard(settings.host):
        yield guarded  # who holds the port on all addresses holds it here
        return
    async with reserved_port(guarded) as held:
        yield held


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[Settings]:
    """The whole service, from the readiness of all workers to the end of the block.

    Yields:
        The settings with the port, URLs and metrics port that are really in use.

    Raises:
        PenchantError: a backend does not start, the schema cannot be brought up to date, or the
            files of TLS or of the key set are no good.
        PortTaken: the port or the metrics' port is.
        OSError: the data directory cannot be written.
    """
    check_tls(settings)
    if settings.jwt_jwks is not None and not is_url(settings.jwt_jwks):
        check_key_set(settings.jwt_jwks)
    async with contextlib.AsyncExitStack() as stack:
        settings = await stack.enter_async_context(reserved_port(settings))
        has_shared_redis = settings.cache.url is not None
        settings = await stack.enter_async_context(backends(settings))
        await bootstrap(settings)
        if settings.several_hosts and has_shared_redis:
            slots = VersionSlots(settings.data_dir)
            await stack.enter_async_context(relaying(slots, settings.cache))
        elif settings.several_hosts:
            _log.info(NO_READY_ANSWERS)
        settings = await stack.enter_async_context(guarded_host(settings))
        shared = stack.enter_context(metrics_folder())
        if settings.metrics_port:
            _serve_metrics(settings, shared)
        text = write_settings(settings)
        environment = {
            # Its own lines, one a failed handshake, are in no form that the service's log has.
            "GRPC_VERBOSITY": "ERROR",
            **_ALLOCATOR,
            **os.environ,
            MULTIPROCESS_VARIABLE: str(shared),
            # A thread pool for the small products of an answer costs more than it brings.
            "OPENBLAS_NUM_THREADS": "1",
        }

        def start(name: str, module: str) -> Child:
            return Child(name, module, text, environment, lambda pid: forget_process(pid, shared))

        workers = [start(f"worker {n}", "server.worker") for n in range(settings.workers)]
        jobs = [start("jobs", "server.jobs_process")] if settings.jobs_enabled else []
        try:
            await asyncio.gather(*(worker.ready.wait() for worker in workers))
            yield settings
        finally:
            grace = settings.shutdown_grace_secs
            await asyncio.gather(*(worker.stop(grace) for worker in workers))
            await asyncio.gather(*(job.stop(grace) for job in jobs))


def _serve_metrics(settings: Settings, shared: Path) -> None:
    try:
        serve_metrics(settings.metrics_port, shared, settings.host)
    except OSError as error:
        remedy = "metrics go to PENCHANT_METRICS_PORT, 0 for none"
        raise PortTaken(settings.host, settings.metrics_port, error, remedy) from error


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; a second signal stops at once.

    Raises:
        PenchantError, OSError: as `running_service`.
    """
    stop = StopSignal()
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(Stopped):
            actual = await stop.before(stack.enter_async_context(running_service(settings)))
            metrics = f"; metrics on port {actual.metrics_port}" if actual.metrics_port else ""
            plural = "worker" if actual.workers == 1 else "workers"
            _log.info(
                f"Penchant serves on {actual.host}:{actual.port} "
                f"({actual.workers} {plural}){metrics}",
                port=actual.port,
            )
            await stop.wait()
        _log.info("stopping")
