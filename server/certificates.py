"""The server's certificate, its key and the clients' authorities: read from files and checked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from server.settings import Settings
from storage.exceptions import FailedPrecondition

_CERT, _KEY, _CA = (
    "PENCHANT_TLS_CERT_FILE", "PENCHANT_TLS_KEY_FILE", "PENCHANT_TLS_CLIENT_CA_FILE",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TlsBytes:
    """What stands in the files, in PEM; `client_ca` is None where clients need no certificate."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What checked files say.

    Attributes:
        expires: the end of the certificate's time, or of one of its chain that ends earlier.
        client_ca_expires: the earliest end among the clients' authorities.
        names: host names and addresses that the certificate is for.
    """

    expires: datetime
    client_ca_expires: datetime | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate, key and the clients' authorities lie."""

    chain: Path
    key: Path
    client_ca: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The files that are configured; None: no TLS."""
        if settings.tls_cert_file is None or settings.tls_key_file is None:
            return None
        return cls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)

    def read(self) -> TlsBytes:
        """What stands in the files now.

        Raises:
            FailedPrecondition: one cannot be read.
        """
        return TlsBytes(
            _read(_CERT, self.chain),
            _read(_KEY, self.key),
            None if self.client_ca is None else _read(_CA, self.client_ca),
        )


def check(files: TlsBytes) -> TlsFacts:
    """Whether the files are whole and belong together.

    Raises:
        FailedPrecondition: they do not; the message names the setting at fault.
    """
    chain = _certificates(_CERT, files.chain)
    if _key_of(files.key) != _public_bytes(chain[0].public_key()):
        raise FailedPrecondition(f"{_KEY} is not the key of the first certificate in {_CERT}")
    authorities = None if files.client_ca is None else _certificates(_CA, files.client_ca)
    return TlsFacts(
        expires=_earliest_end(chain),
        client_ca_expires=None if authorities is None else _earliest_end(authorities),
        names=_names(chain[0]),
    )


def check_tls(settings: Settings) -> TlsFacts | None:
    """What the configured files say; None: no TLS.

    Raises:
        FailedPrecondition: one cannot be read, or they do not belong together.
    """
    files = TlsFiles.of(settings)
    return None if files is None else check(files.read())


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"{setting} cannot be read: {path}: {error.strerror}") from error


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise FailedPrecondition(f"{setting} holds no certificate in PEM") from error


def _key_of(pem: bytes) -> bytes:
    """The public half of a private key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise FailedPrecondition(f"{_KEY} is encrypted; it must lie there in clear") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FailedPrecondition(f"{_KEY} holds no private key in PEM") from error
    return _public_bytes(key.public_key())


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _earliest_end(certificates: list[x509.Certificate]) -> datetime:
    return min(certificate.not_valid_after_utc for certificate in certificates).astimezone(UTC)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)
