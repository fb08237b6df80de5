"""The certificate: the user's own, or one that is made at the first start."""

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import TlsSettings

_LIFETIME: Final = timedelta(days=365)
_RENEW_BEFORE: Final = timedelta(days=30)
_PRIVATE_FILE: Final = 0o600
# The certificate is what the server shows everybody. Whoever is let at it past the data directory (the prober of
# the monitoring stack, which runs as a user of its own) can then read it, and only it.
_OPEN_FILE: Final = 0o644
_OPEN_DIRECTORY: Final = 0o755


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM form.

    Attributes:
        not_after: until when they are good.
        self_signed: whether the server has made them itself.
        names: the DNS names that it is for (RFC 6125, section 6.4.4), in lower case; some may have a `*`.
    """

    cert: Path
    key: Path
    not_after: datetime
    self_signed: bool
    names: tuple[str, ...] = ()


class Tls:
    """The TLS side of the main listener; another certificate that it is to `use` is for new connections.

    Args:
        settings: name the certificate, or none.
        directory: where one is made then.
        hosts: what that is to name, beside this machine.

    Raises:
        ConfigurationError: the configured certificate cannot be used.
    """

    def __init__(self, settings: TlsSettings, directory: Path, hosts: Iterable[str]) -> None:
        self._directory = directory
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.use(self.read(settings, hosts))

    def read(self, settings: TlsSettings, hosts: Iterable[str]) -> Certificate:
        """Find the certificate of these settings; a self-signed one that is about to expire is renewed.

        Raises:
            ConfigurationError: it cannot be used.
        """
        if settings.cert is not None and settings.key is not None:
            certificate = _read(settings.cert, settings.key, self_signed=False)
        else:
            certificate = self._self_signed(tuple(hosts))
        # A trial in a context of its own: a key that does not fit must not break the one in use.
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate)
        return certificate

    def use(self, certificate: Certificate) -> None:
        """Show it to new connections.

        Raises:
            ConfigurationError: its files have changed since it was read, and cannot be used.
        """
        _load(self.context, certificate)
        self.certificate = certificate

    def _self_signed(self, hosts: tuple[str, ...]) -> Certificate:
        cert, key = self._directory / "cert.pem", self._directory / "key.pem"
        if cert.exists() and key.exists() and _is_good(cert, key, hosts):
            return _read(cert, key, self_signed=True)
        self._directory.mkdir(mode=_OPEN_DIRECTORY, parents=True, exist_ok=True)
        self._directory.chmod(_OPEN_DIRECTORY)
        cert_pem, key_pem = make_self_signed(hosts)
        _write(key, key_pem, _PRIVATE_FILE)
        _write(cert, cert_pem, _OPEN_FILE)
        return _read(cert, key, self_signed=True)


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    def refuse() -> str:
        # Without this OpenSSL asks for the pass phrase on the terminal, and the server waits.
        raise ConfigurationError(f"The key {certificate.key} (server.tls.key) has a pass phrase; remove it.")

    try:
        context.load_cert_chain(certificate.cert, certificate.key, refuse)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificate {certificate.cert} and the key {certificate.key} cannot be used together: {error}."
        ) from error


def _is_good(cert: Path, key: Path, hosts: Iterable[str]) -> bool:
    """Whether a certificate of our own can stay: its key fits, it lasts, and it names where we listen now."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        parsed = x509.load_pem_x509_certificate(cert.read_bytes())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        # A server that was killed between writing the two, say.
        return False
    lasts = parsed.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE
    return lasts and all(_general_name(host) in names for host in hosts)


def make_self_signed(hosts: Iterable[str]) -> tuple[bytes, bytes]:
    """A certificate and its key (PEM) for this machine under all the names given, good for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pocket Agent Server")])
    start = datetime.now(UTC) - timedelta(minutes=5)  # clocks of phones may be behind
    names: dict[str, x509.GeneralName] = {}
    for host in ("localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts):
        names.setdefault(host, _general_name(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names.values()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode() if not host.isascii() else host)


def _read(cert: Path, key: Path, *, self_signed: bool) -> Certificate:
    try:
        parsed = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The certificate {cert} (server.tls.cert) cannot be read: {error}.") from error
    return Certificate(cert, key, parsed.not_valid_after_utc, self_signed, _names(parsed))


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()  # clients will not find a name in it, either
    return tuple(name.rstrip(".").lower() for name in found.get_values_for_type(x509.DNSName))


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all; nobody may do with it what its mode does not allow, whatever the umask."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
    temporary.replace(path)
