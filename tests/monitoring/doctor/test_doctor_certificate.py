"""pocket_agent.monitoring.doctor.certificate: files that are wrong, and a server that shows another one."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pocket_agent.monitoring.doctor.machine_checks import check_certificate
from pocket_agent.monitoring.doctor.result import Result
from pocket_agent.monitoring.targets import target_of
from pocket_agent.settings import load_settings
from tests.harness.clinic import Findings
from tests.harness.server import free_port

DAY = timedelta(days=1)


class Pair:
    """A certificate and its key, in files."""

    def __init__(
        self,
        folder: Path,
        *,
        begins: timedelta = -DAY,
        ends: timedelta = 90 * DAY,
        names: Sequence[str] | None = ("127.0.0.1",),
        pass_phrase: bytes | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + begins).not_valid_after(now + ends)
        if names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([general_name(text) for text in names]), False)
        self.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        secret = serialization.BestAvailableEncryption(pass_phrase) if pass_phrase else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))


def general_name(text: str) -> x509.GeneralName:
    """An address or a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


async def look(cert: Path | None, key: Path | None, **further: object) -> Findings:
    """What is found of the certificate of a server that does not run, unless its port is given."""
    flags = {
        "data.dir": "/nonexistent",
        "server.port": free_port(),
        "server.tls.cert": cert,
        "server.tls.key": key,
        **{name.replace("__", "."): value for name, value in further.items()},
    }
    settings = load_settings(config=None, environ={"HOME": "/"}, flags=flags).settings
    return Findings(await check_certificate(settings, target_of(settings)))


async def of(pair: Pair, **further: object) -> Result:
    """What is found of a pair."""
    return (await look(pair.cert, pair.key, **further)).of("certificate")


async def test_a_good_one(tmp_path: Path) -> None:
    finding = await of(Pair(tmp_path))
    assert (finding.status, finding.fix) == ("ok", "")
    assert f"{datetime.now(UTC) + 90 * DAY:%Y-%m}" in finding.message


async def test_without_tls_there_is_none() -> None:
    assert (await look(None, None, server__tls__enabled=False)).of("certificate").status == "skipped"


async def test_before_the_first_start_there_is_none() -> None:
    assert (await look(None, None)).of("certificate").status == "skipped"


async def test_an_expired_one(tmp_path: Path) -> None:
    finding = await of(Pair(tmp_path, begins=-9 * DAY, ends=-DAY))
    assert (finding.status, " expired on " in finding.message) == ("failed", True)
    assert "SIGHUP" in finding.fix


async def test_one_that_expires_soon(tmp_path: Path) -> None:
    finding = await of(Pair(tmp_path, ends=6 * DAY))
    assert (finding.status, " expires on " in finding.message) == ("warning", True)
    assert (await of(Pair(tmp_path, ends=6 * DAY), health__certificate_notice="1d")).status == "ok"


async def test_one_that_is_not_good_yet(tmp_path: Path) -> None:
    finding = await of(Pair(tmp_path, begins=DAY))
    assert (finding.status, "is good only from" in finding.message) == ("failed", True)


async def test_the_key_of_another_one(tmp_path: Path) -> None:
    mine, other = Pair(tmp_path / "mine"), Pair(tmp_path / "other")
    finding = (await look(mine.cert, other.key)).of("certificate")
    assert finding.status == "failed"
    assert finding.message == f"{other.key} cannot be used with {mine.cert}: it is the key of another certificate"


async def test_a_key_with_a_pass_phrase(tmp_path: Path) -> None:
    finding = await of(Pair(tmp_path, pass_phrase=b"secret"))
    assert (finding.status, "it has a pass phrase" in finding.message) == ("failed", True)


async def test_a_key_that_is_missing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.key.unlink()
    assert "No such file" in (await of(pair)).message


async def test_a_file_that_is_missing_or_no_certificate(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.cert.write_text("nonsense", "utf-8")
    assert "it is not a certificate in PEM form" in (await of(pair)).message
    pair.cert.unlink()
    finding = await of(pair)
    assert (finding.status, "No such file" in finding.message) == ("failed", True)


@pytest.mark.parametrize(
    ("host", "names", "status"),
    [
        ("127.0.0.1", ("127.0.0.1",), "ok"),
        ("192.0.2.1", ("agent.home", "192.0.2.1"), "ok"),
        ("192.0.2.1", ("agent.home",), "warning"),
        ("agent.home", ("AGENT.home",), "ok"),
        ("agent.home", ("*.home",), "ok"),
        ("agent.home", ("*.example",), "warning"),
        ("agent.home", None, "warning"),
        ("0.0.0.0", ("agent.home",), "ok"),
        ("::", None, "ok"),
    ],
)
async def test_one_that_names_another_host(tmp_path: Path, host: str, names: Sequence[str] | None, status: str) -> None:
    finding = await of(Pair(tmp_path, names=names), server__host=host)
    assert finding.status == status
    if status == "warning" and names:
        assert f"does not name {host}, where the server is reached; it names {', '.join(names)}" in finding.message


async def test_one_that_names_what_monitoring_knows_the_server_by(tmp_path: Path) -> None:
    pair = Pair(tmp_path, names=("agent.home",))
    assert (await of(pair, server__host="192.0.2.1")).status == "warning"
    assert (await of(pair, server__host="192.0.2.1", monitoring__server_name="agent.home")).status == "ok"


@asynccontextmanager
async def showing(pair: Pair) -> AsyncIterator[int]:
    """Somebody who shows a certificate on loopback; gives the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_one_that_is_shown(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    async with showing(pair) as port:
        findings = await look(pair.cert, pair.key, server__port=port)
        assert [finding.status for finding in findings] == ["ok", "ok"]
        Pair(tmp_path)  # renewed
        finding = (await look(pair.cert, pair.key, server__port=port)).of("certificate in use")
    assert (finding.status, "SIGHUP" in finding.fix) == ("warning", True)


async def test_an_expired_one_that_is_still_shown(tmp_path: Path) -> None:
    pair = Pair(tmp_path, begins=-9 * DAY, ends=-DAY)
    async with showing(pair) as port:
        Pair(tmp_path)  # renewed
        finding = (await look(pair.cert, pair.key, server__port=port)).of("certificate in use")
    assert (finding.status, "which expired on" in finding.message) == ("failed", True)
