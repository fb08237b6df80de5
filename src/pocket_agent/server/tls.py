"""The certificate: the user's own, or one that is made at the first start."""

import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import TlsSettings

_RENEW_BEFORE: Final = timedelta(days=30)
_MAKE_SECONDS: Final = 60.0
_PRIVATE_FILE: Final = 0o600
# Every client sees the certificate. A process that may pass the data directory (the prober of the monitoring stack,
# which runs as a user of its own) can read it, and nothing else there.
_PUBLIC_FILE: Final = 0o644
_PUBLIC_DIRECTORY: Final = 0o755
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the ssl module does not name


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM form."""

    cert: Path
    key: Path
    not_before: datetime  # when it becomes valid
    not_after: datetime  # when it expires
    self_signed: bool  # whether the server made it
    names: tuple[str, ...] = ()  # its DNS names (RFC 6125, section 6.4.4) in lower case, some with a `*`
    addresses: tuple[str, ...] = ()  # its IP addresses


class Tls:
    """The TLS context of the main listener; after `use` new connections get another certificate.

    Args:
        settings: the certificate's files; without them the server makes one.
        directory: where it makes that.
        hosts: the names in it, besides those of this machine.

    Raises:
        ConfigurationError: the configured certificate cannot be used.
    """

    def __init__(self, settings: TlsSettings, directory: Path, hosts: Sequence[str]) -> None:
        self._directory = directory
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.use(self.read(settings, hosts))

    def read(self, settings: TlsSettings, hosts: Sequence[str]) -> Certificate:
        """Find the certificate of these settings; replaces a self-signed one that is about to expire, or not valid yet.

        Raises:
            ConfigurationError: it cannot be used.
        """
        if settings.cert is not None and settings.key is not None:
            return _read(settings.cert, settings.key, self_signed=False)
        cert, key = self._directory / "cert.pem", self._directory / "key.pem"
        with suppress(ConfigurationError):  # missing, or the server was killed after it had written one of the two
            found = _read(cert, key, self_signed=True)
            names = {*found.names, *found.addresses}
            now = datetime.now(UTC)
            # One that is not valid yet was made while the clock was ahead.
            lasts = found.not_before <= now < found.not_after - _RENEW_BEFORE
            if lasts and all(_spelled(host) in names for host in hosts):
                return found
        self._directory.mkdir(mode=_PUBLIC_DIRECTORY, parents=True, exist_ok=True)
        self._directory.chmod(_PUBLIC_DIRECTORY)
        made, private = _make(hosts)
        _write(key, private, _PRIVATE_FILE)
        _write(cert, made, _PUBLIC_FILE)
        return _read(cert, key, self_signed=True)

    def use(self, certificate: Certificate) -> None:
        """Show it to new connections.

        Raises:
            ConfigurationError: its files have changed since `read`, and cannot be used.
        """
        _load(self.context, certificate.cert, certificate.key)
        self.certificate = certificate


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def refuse() -> str:
        # Without this OpenSSL asks for the pass phrase on the terminal, and the server waits.
        raise ConfigurationError(f"The key {key} (server.tls.key) has a pass phrase; remove it.")

    if cert.is_fifo() or key.is_fifo():  # OpenSSL would wait for it, in a thread that cannot be stopped
        raise ConfigurationError(f"{cert} (server.tls.cert) or {key} (server.tls.key) is a pipe; give it a file.")
    try:
        context.load_cert_chain(cert, key, refuse)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"The certificate {cert} (server.tls.cert) and the key {key} (server.tls.key) cannot be used: {error}."
        ) from error


def _read(cert: Path, key: Path, *, self_signed: bool) -> Certificate:
    # A context of its own: a key that does not fit must not break the one in use.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, cert, key)
    try:
        found = _shown(context, cert)
        times = (str(found[name]) for name in ("notBefore", "notAfter"))
        not_before, not_after = (datetime.fromtimestamp(ssl.cert_time_to_seconds(time), UTC) for time in times)
        names = list(found.get("subjectAltName", ()))
    except (ssl.SSLError, ValueError, KeyError):
        (not_before, not_after), names = _parsed(cert)
    dns = tuple(name.rstrip(".").lower() for kind, name in names if kind == "DNS")
    addresses = tuple(_spelled(name) for kind, name in names if kind == "IP Address")
    return Certificate(cert, key, not_before, not_after, self_signed, dns, addresses)


def _shown(context: ssl.SSLContext, cert: Path) -> dict[str, Any]:
    """The certificate of a context, as `ssl.SSLSocket.getpeercert` decodes it.

    Only a handshake decodes one with the standard library, and only one that succeeds: the client trusts the
    certificate itself, whatever its dates. Raises ssl.SSLError for one that OpenSSL refuses all the same.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    client.load_verify_locations(cert)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    for end in (asking, context.wrap_bio(to_server, to_client, server_side=True), asking):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return dict(asking.getpeercert() or {})


def _parsed(cert: Path) -> tuple[tuple[datetime, datetime], list[tuple[str, str]]]:
    """When a certificate begins and expires, and its names, also where OpenSSL would not trust it."""
    from cryptography import x509

    try:
        parsed = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The certificate {cert} (server.tls.cert) cannot be read: {error}.") from error
    valid = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    try:
        found = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return valid, []  # clients do not find a name in it, either
    names = [("DNS", name) for name in found.get_values_for_type(x509.DNSName)]
    addresses = [("IP Address", str(address)) for address in found.get_values_for_type(x509.IPAddress)]
    return valid, names + addresses


def _spelled(host: str) -> str:
    """A host as `Certificate.names` and `addresses` spell it."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return (host.encode("idna").decode() if not host.isascii() else host).rstrip(".").lower()


def _make(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate and its key (PEM), out of a process that has cryptography; this one does without."""
    command = [sys.executable, "-P", "-m", "pocket_agent.server.self_signed", *hosts]
    try:
        made = subprocess.run(  # noqa: S603 - the hosts are arguments of our own program
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_MAKE_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"No certificate could be made: {error}; name one as server.tls.cert.") from error
    end = b"-----END CERTIFICATE-----\n"
    cert, _, key = made.stdout.partition(end)
    return cert + end, key


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all; whatever the umask, it never has more permissions than `mode`."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
    temporary.replace(path)
