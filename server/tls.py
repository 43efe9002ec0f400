"""TLS of the gRPC port: credentials that follow their files while the server runs."""

import asyncio
import threading
from datetime import datetime

import grpc
import structlog

from server.certificates import TlsBytes, TlsFacts, TlsFiles, check
from server.metrics import Metrics
from storage.ending import end
from storage.exceptions import FailedPrecondition

_LOOK_SECS = 30.0

_log = structlog.get_logger(__name__)


class ServerTls:
    """The server's credentials; new files are used by the next connection, old ones stay open.

    The files are read at every new connection, and every half minute so that the metrics and the
    log know of them before somebody connects. New files that are incomplete or do not belong
    together are logged once, and the old ones stay in use.

    Args:
        files: where they lie; with authorities of clients, clients must bring a certificate.
        metrics: its gauge `penchant_tls_certificate_expires_timestamp_seconds` follows the files.

    Attributes:
        credentials: for `add_secure_port`.

    Raises:
        FailedPrecondition: the files cannot be used.
    """

    def __init__(self, files: TlsFiles, metrics: Metrics) -> None:
        self._files = files
        self._metrics = metrics
        self._lock = threading.Lock()
        self._used = self._handed_out = files.read()
        self._seen: TlsBytes | None = self._used
        self._problem: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._show(check(self._used))
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            _configuration(self._used),
            self._for_new_connection,  # type: ignore[arg-type]  # the stubs forget None
            require_client_authentication=files.client_ca is not None,
        )

    def start(self) -> None:
        """Looks at the files every half minute, in the running loop, until `stop`."""
        self._watch = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """Looks no more."""
        await end(self._watch)

    def look(self) -> None:
        """Takes over what stands in the files now, if it is new and good. For any thread."""
        with self._lock:
            self._look()

    def _for_new_connection(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks before every handshake, in a thread of its own; None: no change."""
        with self._lock:
            self._look()
            if self._handed_out == self._used:
                return None
            self._handed_out = self._used
            return _configuration(self._used)

    def _look(self) -> None:
        found = None
        try:
            found = self._files.read()
            if found == self._seen:
                return
            facts = check(found)
        except FailedPrecondition as error:
            self._seen = found
            if error.message != self._problem:
                self._problem = error.message
                _log.error("new TLS files are no good; the old stay in use", message=error.message)
            return
        self._seen, self._problem = found, None
        if found != self._used:
            self._used = found
            self._show(facts)
            _log.info("TLS files are taken over", expires=facts.expires.isoformat())

    def _show(self, facts: TlsFacts) -> None:
        self._set("certificate", facts.expires)
        if facts.client_ca_expires is not None:
            self._set("client_ca", facts.client_ca_expires)

    def _set(self, file: str, expires: datetime) -> None:
        self._metrics.tls_expires.labels(file).set(expires.timestamp())

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECS)
            await asyncio.to_thread(self.look)


def _configuration(files: TlsBytes) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.chain)], root_certificates=files.client_ca
    )
