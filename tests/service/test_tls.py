"""TLS and mutual TLS: who gets in, and certificates that change while the server runs."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from penchant import Client, SyncClient, Unavailable
from pydantic import ValidationError
from structlog.testing import capture_logs

from server.certificates import TlsFiles, check_tls
from server.metrics import Metrics
from server.settings import Settings
from server.tls import ServerTls
from storage.exceptions import FailedPrecondition
from tests.service.certificates import Authority
from tests.service.processes import Services, penchant

_NO_SHARING = (("grpc.use_local_subchannel_pool", 1),)


class Secured:
    """A server behind TLS, whose files a test exchanges."""

    def __init__(self, authority: Authority, directory: Path, *, mutual: bool) -> None:
        self.authority = authority
        self.mutual = mutual
        self.metrics = Metrics()
        self.files = TlsFiles(
            directory / "live.pem", directory / "live.key", authority.file if mutual else None
        )
        self.use("first")
        self.tls = ServerTls(self.files, self.metrics)
        self.port = 0

    def use(self, name: str, *, certificate: bool = True, key: bool = True) -> None:
        """Puts a new pair, or a half of it, where the server looks."""
        new_certificate, new_key = self.authority.issue(name)
        if certificate:
            new_certificate.replace(self.files.chain)
        if key:
            new_key.replace(self.files.key)

    @asynccontextmanager
    async def calling(
        self, pair: tuple[Path, Path] | None = None, *, roots: Path | None = None
    ) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """A function that asks for the health over a connection of its own."""
        chain, key = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(
            (roots or self.authority.file).read_bytes(),
            None if key is None else key.read_bytes(),
            None if chain is None else chain.read_bytes(),
        )
        target = f"127.0.0.1:{self.port}"
        async with grpc.aio.secure_channel(target, credentials, _NO_SHARING) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            yield lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=10)

    async def shown(self, pair: tuple[Path, Path] | None = None) -> str:
        """The name of the certificate that a new connection is shown."""
        return await asyncio.to_thread(self._shown, pair)

    def _shown(self, pair: tuple[Path, Path] | None) -> str:
        context = ssl.create_default_context(cafile=self.authority.file)
        context.set_alpn_protocols(["h2"])
        if pair is not None:
            context.load_cert_chain(*pair)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()

    def expires(self, file: str = "certificate") -> float | None:
        name = "penchant_tls_certificate_expires_timestamp_seconds"
        return self.metrics.registry.get_sample_value(name, {"file": file})


@asynccontextmanager
async def serving(secured: Secured) -> AsyncIterator[Secured]:
    server = grpc.aio.server()
    servicer = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    secured.port = server.add_secure_port("127.0.0.1:0", secured.tls.credentials)
    await server.start()
    try:
        yield secured
    finally:
        await server.stop(0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def secured(authority: Authority, tmp_path: Path) -> AsyncIterator[Secured]:
    async with serving(Secured(authority, tmp_path, mutual=False)) as secured:
        yield secured


@pytest.fixture
async def mutual(authority: Authority, tmp_path: Path) -> AsyncIterator[Secured]:
    async with serving(Secured(authority, tmp_path, mutual=True)) as secured:
        yield secured


async def refused(call: Awaitable[Any]) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_client_that_trusts_the_authority_gets_in(secured: Secured) -> None:
    async with secured.calling() as ask:
        assert (await ask()).status == health_pb2.HealthCheckResponse.SERVING


async def test_client_that_trusts_another_authority_stays_out(
    secured: Secured, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    async with secured.calling(roots=other.file) as ask:
        assert await refused(ask())


async def test_client_without_tls_stays_out(secured: Secured) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{secured.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert await refused(stub.Check(health_pb2.HealthCheckRequest(), timeout=10))


async def test_mutual_tls_lets_in_who_brings_a_certificate(
    mutual: Secured, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    async with mutual.calling(authority.issue("client")) as ask:
        assert (await ask()).status == health_pb2.HealthCheckResponse.SERVING
    for pair in (None, stranger, authority.issue("late", days=-1)):
        async with mutual.calling(pair) as ask:
            assert await refused(ask())


@pytest.mark.parametrize("is_mutual", [False, True], ids=["tls", "mutual tls"])
async def test_new_certificate_is_shown_to_new_connections(
    is_mutual: bool, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("client") if is_mutual else None
    async with serving(Secured(authority, tmp_path, mutual=is_mutual)) as server:
        for name in ("second", "third"):
            server.use(name)
            for _ in range(2):
                assert await server.shown(pair) == f"CN={name}"


async def test_open_stream_outlives_new_certificates(secured: Secured) -> None:
    credentials = grpc.ssl_channel_credentials(secured.authority.file.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{secured.port}", credentials) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        secured.use("second")
        assert await secured.shown() == "CN=second"
        await asyncio.sleep(0.2)
        assert not watch.done()
        watch.cancel()


async def test_new_authority_of_clients_holds_for_new_connections(
    mutual: Secured, authority: Authority, tmp_path: Path
) -> None:
    old, others = authority.issue("client"), Authority(tmp_path, "others")
    new = others.issue("new client")
    async with mutual.calling(old) as ask_before, mutual.calling(old) as ask_after:
        await ask_before()
        assert mutual.files.client_ca is not None
        roots = tmp_path / "roots.pem"
        roots.write_bytes(authority.file.read_bytes())
        mutual.files.client_ca.write_bytes(others.file.read_bytes())
        await ask_before()
        assert await refused(ask_after())
        async with mutual.calling(new, roots=roots) as ask:
            await ask()


async def test_bad_new_files_leave_the_old_and_are_logged_once(secured: Secured) -> None:
    good = secured.files.chain.read_bytes()
    with capture_logs() as lines:
        secured.files.chain.write_bytes(good[: len(good) // 2])
        for _ in range(2):
            assert await secured.shown() == "CN=first"
        secured.use("second", key=False)
        for _ in range(2):
            assert await secured.shown() == "CN=first"
        secured.files.chain.unlink()
        for _ in range(2):
            assert await secured.shown() == "CN=first"
        secured.use("third")
        assert await secured.shown() == "CN=third"
    assert [line.get("message", "").partition(":")[0] for line in lines] == [
        "PENCHANT_TLS_CERT_FILE holds no certificate in PEM",
        "PENCHANT_TLS_KEY_FILE is not the key of the first certificate in PENCHANT_TLS_CERT_FILE",
        "PENCHANT_TLS_CERT_FILE cannot be read",
        "",
    ]
    assert lines[-1]["event"] == "TLS files are taken over"


async def test_expiry_is_a_metric_that_follows(secured: Secured, authority: Authority) -> None:
    def end() -> float:
        (certificate,) = x509.load_pem_x509_certificates(secured.files.chain.read_bytes())
        return certificate.not_valid_after_utc.timestamp()

    assert secured.expires() == end()
    certificate, key = authority.issue("second", days=5)
    certificate.replace(secured.files.chain)
    key.replace(secured.files.key)
    secured.tls.look()
    assert secured.expires() == end()
    assert secured.expires("client_ca") is None


def _variables(authority: Authority, *, mutual: bool) -> dict[str, str]:
    certificate, key = authority.issue("server")
    given = {"PENCHANT_TLS_CERT_FILE": str(certificate), "PENCHANT_TLS_KEY_FILE": str(key)}
    return given | ({"PENCHANT_TLS_CLIENT_CA_FILE": str(authority.file)} if mutual else {})


def _encrypted(key: Path) -> None:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


_SPOILED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no key file": (lambda _, key: key.unlink(), "PENCHANT_TLS_KEY_FILE cannot be read: "),
    "an encrypted key": (lambda _, key: _encrypted(key), "PENCHANT_TLS_KEY_FILE is encrypted"),
    "half a key": (
        lambda _, key: key.write_bytes(key.read_bytes()[:99]),
        "PENCHANT_TLS_KEY_FILE holds no private key in PEM",
    ),
    "the key twice": (
        lambda chain, key: chain.write_bytes(key.read_bytes()),
        "PENCHANT_TLS_CERT_FILE holds no certificate in PEM",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), _SPOILED.values(), ids=_SPOILED.keys())
def test_bad_files_are_refused(
    authority: Authority, spoil: Callable[[Path, Path], object], message: str
) -> None:
    certificate, key = authority.issue("server")
    spoil(certificate, key)
    with pytest.raises(FailedPrecondition, match=message):
        check_tls(Settings(tls_cert_file=certificate, tls_key_file=key))


def test_bad_files_are_said_at_the_start(authority: Authority, tmp_path: Path) -> None:
    variables = _variables(authority, mutual=False)
    authority.file.replace(variables["PENCHANT_TLS_CERT_FILE"])
    done = penchant(tmp_path, "serve", **variables)
    assert done.returncode == 1
    assert "PENCHANT_TLS_KEY_FILE is not the key of the first certificate" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert_file": "a"}, "PENCHANT_TLS_CERT_FILE and PENCHANT_TLS_KEY_FILE go together"),
        ({"tls_client_ca_file": "a"}, "PENCHANT_TLS_CLIENT_CA_FILE needs PENCHANT_TLS_CERT_FILE"),
        ({"jwt_jwks": "a"}, "needs PENCHANT_JWT_ISSUER and PENCHANT_JWT_AUDIENCE"),
        ({"jwt_issuer": "a"}, "need PENCHANT_JWT_JWKS"),
        (
            {"jwt_jwks": "http://idp.example/", "jwt_issuer": "a", "jwt_audience": "b"},
            "over http:// anybody on the way could put in keys",
        ),
    ],
    ids=["no key", "authorities alone", "no issuer", "no key set", "plain http"],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"certificate": "a"}, "certificate and key go together"),
        ({"root_certificates": "a", "tls": grpc.ssl_channel_credentials()}, "holds credentials"),
    ],
    ids=["no key", "credentials and files"],
)
def test_client_is_told_what_does_not_go_together(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyncClient(**given)


async def test_service_with_mutual_tls(services: Services, authority: Authority) -> None:
    variables = _variables(authority, mutual=True)
    service = await asyncio.to_thread(services.start, **variables)
    certificate, key = authority.issue("client")
    files: dict[str, Any] = {
        "root_certificates": authority.file, "certificate": certificate, "key": key,
    }  # fmt: skip
    async with Client(service.target, timeout=20, **files) as client:
        assert len((await client.recommend(page_size=1)).items) == 0
    with SyncClient(service.target, timeout=20, **files) as blocking:
        assert len(blocking.recommend(page_size=1).items) == 0
    async with Client(service.target, root_certificates=authority.file) as client:
        with pytest.raises(Unavailable):
            await client.recommend(page_size=1)
    words = ("health", "--address", service.target)
    own = await asyncio.to_thread(penchant, services.home, *words, **variables)
    assert (own.returncode, own.stdout) == (0, "SERVING\n"), own.stderr
    given = ("--root-certificates", str(authority.file), "--certificate", str(certificate))
    other = await asyncio.to_thread(penchant, services.home, *words, *given, "--key", str(key))
    assert (other.returncode, other.stdout) == (0, "SERVING\n"), other.stderr
    outside = await asyncio.to_thread(penchant, services.home, *words)
    assert outside.returncode == 1
    assert service.stop() == 0
    assert {event["level"] for event in service.events()} <= {"info", "warning"}


def test_doctor_tells_of_certificates_that_end(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server", days=3)
    done = penchant(
        tmp_path,
        "doctor",
        PENCHANT_TLS_CERT_FILE=str(certificate),
        PENCHANT_TLS_KEY_FILE=str(key),
        PENCHANT_TLS_CLIENT_CA_FILE=str(authority.file),
    )
    assert done.returncode == 1, done.stderr
    assert "bad  TLS: certificate valid until" in done.stdout
    assert "ok   TLS: clients' authorities valid until" in done.stdout
