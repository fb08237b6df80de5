"""The certificate: made once and kept private, or the user's own; replaced without a restart."""

import asyncio
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pocket_agent.errors import ConfigurationError
from pocket_agent.server import self_signed
from pocket_agent.server.self_signed import make_self_signed
from pocket_agent.server.tls import Tls
from pocket_agent.settings import TlsSettings
from tests.harness import DEADLINE_SECONDS


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Whatever the user's is."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def write(folder: Path, name: str, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """A certificate and its key as files."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(pair[0])
    key.write_bytes(pair[1])
    return cert, key


def serial(pem: bytes) -> int:
    """What tells certificates apart."""
    return x509.load_pem_x509_certificate(pem).serial_number


async def served(context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection gets."""
    got: list[bytes] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with server, asyncio.timeout(DEADLINE_SECONDS):
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        got.append(found)
        writer.close()
        await writer.wait_closed()
    return x509.load_der_x509_certificate(got[0]).serial_number


def test_it_is_made_once_and_its_key_is_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "tls"
    first = Tls(TlsSettings(), folder, ["127.0.0.1"])
    assert {path.name for path in folder.iterdir()} == {"cert.pem", "key.pem"}
    assert mode(folder) == 0o755, f"umask {umask:o}"
    assert {path.name: mode(path) for path in folder.iterdir()} == {"cert.pem": 0o644, "key.pem": 0o600}
    assert first.certificate.self_signed
    second = Tls(TlsSettings(), folder, ["127.0.0.1"])
    assert second.certificate == first.certificate
    assert serial((folder / "cert.pem").read_bytes()) == serial(first.certificate.cert.read_bytes())


def test_it_names_this_machine_and_what_was_asked_for() -> None:
    cert, key = make_self_signed(["192.168.1.7", "box.local", "bücher.example", "::1"])
    parsed = x509.load_pem_x509_certificate(cert)
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    assert {"localhost", "box.local", "xn--bcher-kva.example"} <= set(dns)
    assert {"127.0.0.1", "::1", "192.168.1.7"} == set(addresses)
    assert len(addresses) == len(set(addresses))
    left = parsed.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=360) < left < timedelta(days=398), "browsers refuse longer ones"
    assert parsed.not_valid_before_utc < datetime.now(UTC)
    loaded = serialization.load_pem_private_key(key, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)


async def test_a_client_that_trusts_it_gets_in_by_every_name(tmp_path: Path) -> None:
    made = Tls(TlsSettings(), tmp_path / "tls", [])
    trusting = ssl.create_default_context(cafile=str(made.certificate.cert))

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=made.context)
    async with server, asyncio.timeout(DEADLINE_SECONDS):
        port = server.sockets[0].getsockname()[1]
        for name in ("127.0.0.1", "localhost"):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="evil.example")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


class _ClockAhead(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=3650)


@pytest.mark.parametrize("case", ["expires", "clock ahead"])
def test_it_is_renewed_before_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """And so is one that was made while the clock was ahead, which no client accepts before that time."""
    folder = tmp_path / "tls"
    old = Tls(TlsSettings(), folder, [])
    with monkeypatch.context() as patch:
        if case == "clock ahead":
            patch.setattr(self_signed, "datetime", _ClockAhead)
        made = make_self_signed([], timedelta(days=29 if case == "expires" else 365))
    for path, pem in zip(("cert.pem", "key.pem"), made, strict=True):
        (folder / path).write_bytes(pem)
    before = serial(old.certificate.cert.read_bytes())
    old.use(old.read(TlsSettings(), []))
    assert serial(old.certificate.cert.read_bytes()) != before
    assert timedelta(days=300) < old.certificate.not_after - datetime.now(UTC) < timedelta(days=400)
    assert {path.name: mode(path) for path in folder.iterdir()} == {"cert.pem": 0o644, "key.pem": 0o600}
    after = serial(old.certificate.cert.read_bytes())
    old.use(old.read(TlsSettings(), []))
    assert serial(old.certificate.cert.read_bytes()) == after


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_half_of_it_is_made_anew(tmp_path: Path, missing: str) -> None:
    Tls(TlsSettings(), tmp_path, [])
    (tmp_path / missing).unlink()
    Tls(TlsSettings(), tmp_path, [])
    assert (tmp_path / missing).exists()


def test_it_is_made_anew_for_another_name(tmp_path: Path) -> None:
    first = serial(Tls(TlsSettings(), tmp_path, ["one.example"]).certificate.cert.read_bytes())
    same = serial(Tls(TlsSettings(), tmp_path, ["one.example"]).certificate.cert.read_bytes())
    other = serial(Tls(TlsSettings(), tmp_path, ["192.0.2.7"]).certificate.cert.read_bytes())
    assert first == same
    assert other != first


def test_a_key_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    """As after a server that was killed between writing the two."""
    Tls(TlsSettings(), tmp_path, [])
    (tmp_path / "key.pem").write_bytes(make_self_signed([])[1])
    Tls(TlsSettings(), tmp_path, [])


@pytest.mark.parametrize("extension", [None, b"\x30\x03\x82\x01\xff"])
def test_a_certificate_without_names_that_can_be_read_has_none(tmp_path: Path, extension: bytes | None) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    builder = builder.public_key(private.public_key()).not_valid_before(datetime.now(UTC))
    builder = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1))
    if extension is not None:
        oid = x509.SubjectAlternativeName.oid
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    encoding = serialization.Encoding.PEM
    pem = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cert, key = write(tmp_path, "own", (builder.sign(private, hashes.SHA256()).public_bytes(encoding), pem))
    assert Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", []).certificate.names == ()


async def test_ones_own_certificate(tmp_path: Path) -> None:
    cert, key = write(tmp_path, "own", make_self_signed(["box.local"]))
    made = Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", [])
    assert not made.certificate.self_signed
    assert not (tmp_path / "tls").exists()
    assert await served(made.context) == serial(cert.read_bytes())


def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    cert, key = write(tmp_path, "own", make_self_signed([]))
    _, other = write(tmp_path, "other", make_self_signed([]))
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nonsense")
    empty = tmp_path / "empty.pem"
    empty.touch()
    missing = tmp_path / "missing.pem"
    for wrong in ((missing, key), (garbage, key), (empty, key), (key, key), (cert, missing), (cert, garbage)):
        with pytest.raises(ConfigurationError) as caught:
            Tls(TlsSettings(cert=wrong[0], key=wrong[1]), tmp_path / "tls", [])
        assert str(wrong[0] if wrong[0] != cert else wrong[1]) in caught.value.message
    with pytest.raises(ConfigurationError) as caught:
        Tls(TlsSettings(cert=cert, key=other), tmp_path / "tls", [])
    assert str(cert) in caught.value.message
    assert str(other) in caught.value.message


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe"):
        Tls(TlsSettings(cert=tmp_path / "pipe", key=tmp_path / "pipe"), tmp_path / "tls", [])


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    cert, key = write(tmp_path, "locked", (certificate.public_bytes(serialization.Encoding.PEM), locked))
    with pytest.raises(ConfigurationError) as caught:
        Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", [])
    assert str(key) in caught.value.message
    assert "pass phrase" in caught.value.message


async def test_a_new_certificate_is_served_to_new_connections(tmp_path: Path) -> None:
    cert, key = write(tmp_path, "own", make_self_signed([]))
    made = Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", [])
    before = await served(made.context)
    write(tmp_path, "own", make_self_signed([]))
    assert await served(made.context) == before, "not before it is told to"
    made.use(made.read(TlsSettings(cert=cert, key=key), []))
    assert await served(made.context) == serial(cert.read_bytes()) != before


async def test_a_new_certificate_that_is_broken_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    cert, key = write(tmp_path, "own", make_self_signed([]))
    made = Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", [])
    before = await served(made.context)
    known = made.certificate
    stranger = make_self_signed([])
    for broken in ((stranger[0], key.read_bytes()), (b"nonsense", stranger[1]), (b"", b"")):
        cert.write_bytes(broken[0])
        with pytest.raises(ConfigurationError):
            made.use(made.read(TlsSettings(cert=cert, key=key), []))
        assert made.certificate == known
        assert await served(made.context) == before


async def test_old_protocols_are_not_spoken(tmp_path: Path) -> None:
    made = Tls(TlsSettings(), tmp_path / "tls", [])
    assert made.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_whoever_trusts_the_servers_certificate_trusts_no_other_by_it() -> None:
    """An authority's key in the data directory could sign for any name, on every device that trusts it."""
    certificate = x509.load_pem_x509_certificate(make_self_signed(["box.local"])[0])
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_certificate_is_read_without_cryptography(tmp_path: Path) -> None:
    """It takes 9 MB of memory for good, in a server that may never need it."""
    code = f"""
import sys
from ipaddress import ip_address
from pathlib import Path
from pocket_agent.cli import serve
from pocket_agent.server import http, tls
from pocket_agent.settings import TlsSettings
assert tls.Tls(TlsSettings(), Path({str(tmp_path)!r}), ["box.local"]).certificate.names[-1] == "box.local"
assert not {{"cryptography", "markdown_it", "segno"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_certificate_that_clients_distrust_is_read_all_the_same(tmp_path: Path) -> None:
    """It has no server purpose, so that no handshake with it succeeds."""
    private = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).serial_number(1)
    builder = builder.public_key(private.public_key()).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2021, 1, 1, tzinfo=UTC))
    names = x509.SubjectAlternativeName([x509.DNSName("Box.Local"), x509.IPAddress(ip_address("::1"))])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    builder = builder.add_extension(names, critical=False).add_extension(purpose, critical=False)
    encoding = serialization.Encoding.PEM
    pem = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cert, key = write(tmp_path, "own", (builder.sign(private, hashes.SHA256()).public_bytes(encoding), pem))
    found = Tls(TlsSettings(cert=cert, key=key), tmp_path / "tls", []).certificate
    assert (found.names, found.addresses, found.not_after.year) == (("box.local",), ("::1",), 2021)
