"""The certificate: whether its files are good, go together and are the ones in use."""

import asyncio
import ipaddress
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from pocket_agent.config.settings import Settings
from pocket_agent.monitoring.doctor.finding import Finding, failed, ok, skipped, warning
from pocket_agent.monitoring.targets import Target

_SECONDS: Final = 5.0
_ANYWHERE: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to


async def examine_certificate(settings: Settings, target: Target) -> list[Finding]:
    """The certificate's files, and what the server shows."""
    name, tls = "certificate", settings.server.tls
    if not tls.enabled:
        return [skipped(name, "TLS is off")]
    cert = tls.cert or settings.data.dir / "tls" / "cert.pem"
    key = tls.key or settings.data.dir / "tls" / "key.pem"
    if tls.cert is None and not cert.exists():
        return [skipped(name, "there is none yet: the server makes one when it starts")]
    try:
        found = await asyncio.to_thread(lambda: x509.load_pem_x509_certificate(cert.read_bytes()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no certificate in PEM form"
        fix = "Name a readable PEM file as server.tls.cert, or leave it and server.tls.key out: the server makes one."
        return [failed(name, f"{cert} cannot be read: {reason}", fix)]
    file = _pair(cert, key) or _dates(cert, found, settings) or _names(cert, found, settings)
    if file is None:
        file = ok(name, f"{cert} is good until {found.not_valid_after_utc:%Y-%m-%d}")
    return [file, *await _in_use(cert, found, target)]


def _pair(cert: Path, key: Path) -> Finding | None:
    """Whether the key is the certificate's; blocking."""
    fix = f"Put the key that belongs to {cert} there, without a pass phrase, readable by the server's user."

    def refuse() -> str:
        raise ValueError("it has a pass phrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, refuse)
    except PermissionError:
        fix = "Run this as the server's user."
        return warning("certificate", f"{key} may not be read by this user, so it is not known whether it fits", fix)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
        text = "it is the key of another certificate" if reason == "KEY_VALUES_MISMATCH" else reason or str(error)
        return failed("certificate", f"{key} cannot be used with {cert}: {text}", fix)
    return None


def _dates(cert: Path, found: x509.Certificate, settings: Settings) -> Finding | None:
    """Whether today is within its time."""
    now = datetime.now(UTC)
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    own = settings.server.tls.cert is None
    renew = "Send the server SIGHUP (systemctl reload pocket-agent)"
    fix = f"{renew}: it makes a new one." if own else f"Renew it. {renew}."
    if start > now:
        return failed("certificate", f"{cert} is good only from {start:%Y-%m-%d %H:%M} UTC on", "See to the clock.")
    if end <= now:
        return failed("certificate", f"{cert} expired on {end:%Y-%m-%d %H:%M} UTC", fix)
    if (end - now).total_seconds() < settings.health.certificate_notice:
        return warning("certificate", f"{cert} expires on {end:%Y-%m-%d %H:%M} UTC", fix)
    return None


def _names(cert: Path, found: x509.Certificate, settings: Settings) -> Finding | None:
    """Whether it names where the server listens, or what monitoring knows it by."""
    host = settings.monitoring.server_name or settings.server.host
    if host in _ANYWHERE:
        return None
    with suppress(x509.ExtensionNotFound, ValueError):
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if _named(host, names):
            return None
        listed = ", ".join(str(name.value) for name in names)
        return warning(
            "certificate",
            f"{cert} does not name {host}, where the server is reached; it names {listed}",
            f"Who connects to {host} refuses it: get one for it, or set monitoring.server_name to a name that it has.",
        )
    return warning("certificate", f"{cert} names no host at all", "Get one with a subject alternative name.")


def _named(host: str, names: x509.SubjectAlternativeName) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return host.lower() in known or f"*.{host.lower().partition('.')[2]}" in known


async def _in_use(cert: Path, found: x509.Certificate, target: Target) -> list[Finding]:
    """Whether the server shows what the file holds."""
    shown = await _shown(target)
    if shown is None:
        return []
    name = "certificate in use"
    if shown == found:
        return [ok(name, f"the server shows {cert.name}")]
    end = f"{shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    fix = "Send the server SIGHUP (systemctl reload pocket-agent)."
    if shown.not_valid_after_utc <= datetime.now(UTC):
        return [failed(name, f"the server shows another one than {cert}, which expired on {end}", fix)]
    return [warning(name, f"the server shows another one than {cert}, which ends on {end}", fix)]


async def _shown(target: Target) -> x509.Certificate | None:
    """The certificate that a client gets; None when nobody speaks TLS there."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what it is, is the question
    host, _, port = target.address.rpartition(":")
    with suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        try:
            encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(encoded)
        finally:
            writer.transport.abort()
    return None
