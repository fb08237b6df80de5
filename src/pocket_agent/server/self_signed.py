"""Makes a self-signed certificate; a process of its own, since cryptography takes 9 MB of memory for good.

python -m pocket_agent.server.self_signed HOST ...    prints the certificate and its key (PEM)
"""

import ipaddress
import socket
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME: Final = timedelta(days=365)


def make_self_signed(hosts: Iterable[str], lifetime: timedelta = _LIFETIME) -> tuple[bytes, bytes]:
    """A certificate and its key (PEM) for this machine under all names given."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pocket Agent Server")])
    start = datetime.now(UTC) - timedelta(minutes=5)  # clocks of phones may be behind
    names = {host: _general_name(host) for host in ("localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts)}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectAlternativeName(names.values()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode() if not host.isascii() else host)


if __name__ == "__main__":
    sys.stdout.buffer.write(b"".join(make_self_signed(sys.argv[1:])))
