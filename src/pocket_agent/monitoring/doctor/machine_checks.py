"""Checks of this machine: the CLI, the certificate, the data directory, the log, the clock."""

import asyncio
import ctypes
import errno
import ipaddress
import os
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from pocket_agent.claude.command_line import build_environment
from pocket_agent.claude.confinement import ADVICE as ADVICE_CONFINEMENT
from pocket_agent.claude.installation import ADVICE, Installer, is_logged_in
from pocket_agent.errors import ClaudeNotFoundError, PocketAgentError
from pocket_agent.monitoring.doctor.result import (
    VOLATILE,
    Context,
    Result,
    failed,
    ok,
    printable,
    runbook,
    skipped,
    warning,
)
from pocket_agent.monitoring.targets import Target, has_argument
from pocket_agent.policy import examine_confinement
from pocket_agent.settings import LoggingSettings, Settings, format_size
from pocket_agent.storage.database import database_path, lock_owner
from pocket_agent.storage.maintenance import inspect, read_space

# --- the CLI


async def check_agent(context: Context) -> list[Result]:
    """The CLI as a server that is started from here would find it."""
    name, claude = "claude", context.settings.claude
    environment = build_environment(context.environment, claude.environment)
    try:
        found = await Installer(claude.binary, context.candidates, environment).check(0)
    except ClaudeNotFoundError as error:
        message = error.message.removesuffix(ADVICE).strip().rstrip(".")
        fix = ADVICE if error.message.endswith(ADVICE) else "Run it by hand: it prints the reason. " + ADVICE
        return [failed(name, message, fix)]
    shown = f"{found.path}, version {found.version or 'unknown'}"
    holes = "; ".join(f"{advisory.id} ({advisory.cve}): {advisory.what}" for advisory in found.advisories)
    results = [warning(name, f"{shown}: {holes}", found.vulnerability) if holes else ok(name, shown)]
    is_demo = context.settings.demo or await asyncio.to_thread(_serves_demo, context)
    if not is_demo and await is_logged_in(found.path, environment) is False:
        fix = "Run `claude` as the server's user and log in, or set ANTHROPIC_API_KEY; `serve --demo` needs neither."
        results.append(warning("claude login", "no user is logged in, so executions will fail", fix))
    return [*results, await _confinement(context)]


def _serves_demo(context: Context) -> bool:
    """Whether the server that has the data directory was started with `--demo`, which doctor's settings do not have."""
    owner = lock_owner(database_path(context.settings.data.dir))
    return owner is not None and has_argument(owner, "--demo")


async def _confinement(context: Context) -> Result:
    """What agents could see of the machine, were the server started from here."""
    name = "confinement"
    found = await asyncio.to_thread(examine_confinement, context.loaded, context.environment)
    if not found.reason:
        return ok(name, f"{found.mode} (claude.confinement)")
    message = f"off: {found.reason.removesuffix(ADVICE_CONFINEMENT).strip().rstrip('.')}"
    result = warning if context.settings.claude.confinement is None else failed
    return result(name, message, f"{ADVICE_CONFINEMENT} Without it agents can read the server's own data.")


# --- the certificate


_SECONDS: Final = 5.0
_ANYWHERE: Final = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to


async def check_certificate(settings: Settings, target: Target) -> list[Result]:
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
        reason = error.strerror if isinstance(error, OSError) else "it is not a certificate in PEM form"
        fix = "Name a readable PEM file as server.tls.cert, or leave it and server.tls.key out: the server makes one."
        return [failed(name, f"{cert} cannot be read: {reason}", fix)]
    file = _pair(cert, key) or _dates(cert, found, settings) or _names(cert, found, settings)
    if file is None:
        file = ok(name, f"{cert} is good until {found.not_valid_after_utc:%Y-%m-%d}")
    return [file, *await _in_use(cert, found, target)]


def _pair(cert: Path, key: Path) -> Result | None:
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


def _dates(cert: Path, found: x509.Certificate, settings: Settings) -> Result | None:
    """Whether today is within its time."""
    now = datetime.now(UTC)
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    own = settings.server.tls.cert is None
    renew = "Send the server SIGHUP (systemctl reload pocket-agent)"
    fix = f"{renew}: it makes a new one." if own else f"Renew it. {renew}."
    if start > now:
        return failed(
            "certificate",
            f"{cert} is good only from {start:%Y-%m-%d %H:%M} UTC on",
            "Correct the clock of this machine, or the certificate.",
        )
    if end <= now:
        return failed("certificate", f"{cert} expired on {end:%Y-%m-%d %H:%M} UTC", fix)
    if (end - now).total_seconds() < settings.health.certificate_notice:
        return warning("certificate", f"{cert} expires on {end:%Y-%m-%d %H:%M} UTC", fix)
    return None


def _names(cert: Path, found: x509.Certificate, settings: Settings) -> Result | None:
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
            f"Clients of {host} refuse it: get one for that name, or set monitoring.server_name to a name that it has.",
        )
    return warning("certificate", f"{cert} names no host at all", "Get one with a subject alternative name.")


def _named(host: str, names: x509.SubjectAlternativeName) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return host.lower() in known or f"*.{host.lower().partition('.')[2]}" in known


async def _in_use(cert: Path, found: x509.Certificate, target: Target) -> list[Result]:
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
    """The certificate that a client gets; None when nothing speaks TLS at the address."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is compared, not trusted
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


# --- the data directory


_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SPACE: Final = (
    "Free some space on that disk. A lower storage.max_size or storage.max_age keeps the database from growing; "
    f"`pocket-agent storage compact` gives back what it does not use: {runbook('DiskSpaceLow')}"
)
_CHECK_SECONDS: Final = 2.0
"""How long the pages of the database are checked; a large one is checked in part."""
_UNUSED_SHARE: Final = 0.5
_UNUSED_BYTES: Final = 64 * 2**20
"""So much, and such a share, of the database may hold nothing before it is worth a word."""
_INODES: Final = 1000
"""Free inodes below which new files will soon be refused, however many bytes are free."""


def check_directory(context: Context) -> list[Result]:
    """Everything about the data directory; blocking, without a limit while a disk hangs."""
    settings = context.settings
    directory = settings.data.dir
    try:
        directory.stat()
    except OSError as error:
        fix = "Start the server once, which makes it; or name the right one (data.dir, PA_DATA_DIR, --data-dir)."
        return [failed("data directory", f"{directory} is not there: {os.strerror(error.errno or 0).lower()}", fix)]
    return [_writable(context), _private(directory), _disk(settings), *_database(directory)]


def _writable(context: Context) -> Result:
    name, directory = "data directory", context.settings.data.dir
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-"):
            pass
    except OSError as error:
        if error.errno == errno.EROFS:
            fix = "Mount its file system read-write; the kernel's log (dmesg) shows whether its disk has failed."
            return failed(name, f"{directory} cannot be written: its file system is read-only", fix)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return failed(name, f"{directory} cannot be written: {os.strerror(error.errno).lower()}", _SPACE)
        fix = f"Give it to the server's user (chown -R USER {directory}), and run this as that user."
        return failed(name, f"{directory} cannot be written: {error.strerror or error}", fix)
    kind = context.file_system(directory)
    if kind in VOLATILE:
        what = f"{directory} is on {kind}: all conversations and devices are lost when the machine restarts"
        return warning(name, what, "Set data.dir to a directory on a disk, and move the data there (docs/storage.md).")
    return ok(name, f"{directory} can be written")


def _private(directory: Path) -> Result:
    """Whether other users of the machine can read the directory; the server makes it for its own user alone."""
    name = "data directory mode"
    exposed = [str(path) for path in _secrets(directory) if _mode(path) & _OTHERS]
    mode = _mode(directory)
    if exposed:
        what = f"other users of this machine can read {', '.join(exposed)}"
        return failed(name, what, f"chmod -R go= {' '.join(exposed)}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return failed(name, f"other users of this machine can write to {directory}", f"chmod 700 {directory}")
    if mode & (stat.S_IRGRP | stat.S_IROTH):  # to pass through may be meant: the certificate is for all
        return warning(name, f"other users of this machine can list {directory}", f"chmod 700 {directory}")
    return ok(name, "only its owner can read it and its files")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # gone since it was listed
        return 0


def _secrets(directory: Path) -> Iterator[Path]:
    """The files that hold conversations or credentials."""
    database = database_path(directory)
    for path in (
        *(database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm")),
        directory / "tls" / "key.pem",
        directory / "metrics-token",
        directory / "chat.token",
        directory / "spool",
    ):
        if path.exists():
            yield path


def _disk(settings: Settings) -> Result:
    name = "disk"
    try:
        disk = os.statvfs(settings.data.dir)
    except OSError as error:
        return skipped(name, f"cannot be asked: {error.strerror}")
    free = disk.f_bavail * disk.f_frsize
    text = f"{_readable(free)} free for the data directory"
    if free < settings.limits.min_free_disk:
        least = format_size(settings.limits.min_free_disk)
        return failed(name, f"{text}, less than {least}: new executions are refused (limits.min_free_disk)", _SPACE)
    if free < settings.health.low_disk:
        return warning(name, f"{text}, less than {format_size(settings.health.low_disk)} (health.low_disk)", _SPACE)
    if disk.f_files > 0 and disk.f_favail < _INODES:  # file systems without a number of inodes say 0
        return warning(name, f"{text}, but only {disk.f_favail} inodes", "Remove files: many small ones fill the disk.")
    return ok(name, text)


def _database(directory: Path) -> Iterator[Result]:
    """Whether the database is damaged or mostly empty, and whether the directories of its projects exist."""
    name, database = "database", database_path(directory)
    if not database.exists():
        return
    fix = (
        "Stop the server, keep a copy of the data directory, and restore the last backup (docs/storage.md). "
        f"See {runbook('StorageErrors')}"
    )
    try:
        space, found = read_space(database), inspect(database, _CHECK_SECONDS)
    except PermissionError:
        yield skipped(name, f"{database} is not readable by this user", "Run this as the server's user.")
        return
    except PocketAgentError as error:
        yield failed(name, f"{database} cannot be read: {error.message}", fix)
        return
    if found.damage:
        yield failed(name, f"{database} is damaged: {found.damage}", fix)
        return
    yield from _projects(found.directories)
    text = f"{_readable(space.size_bytes)}, of which {_readable(space.unused_bytes)} are empty"
    if space.unused_bytes > max(_UNUSED_BYTES, _UNUSED_SHARE * space.size_bytes):
        yield warning(name, text, "They are used again as projects grow. To give them back: stop the server, run "
                      "pocket-agent storage compact, start it again.")  # fmt: skip
    else:
        yield ok(name, text)


def _projects(directories: Sequence[tuple[str, Path]]) -> Iterator[Result]:
    """The projects whose directory does not exist; their executions fail."""
    gone = []
    for name, path in directories:
        with suppress(OSError):
            path.stat()
            continue
        if not path.exists():
            gone.append(f"{path} ({printable(name)})")
    if gone:
        shown = ", ".join(gone[:_SHOWN]) + (f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else "")
        fix = "Mount or restore the directory, or delete the project in a client."
        yield warning("project directories", f"do not exist, so executions there fail: {shown}", fix)


_SHOWN: Final = 5


def _readable(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


# --- the log and the clock


_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""


def check_log(settings: LoggingSettings) -> Result:
    """Whether the log can be written to; blocking."""
    name = "log"
    output = settings.output
    if not isinstance(output, Path):
        return ok(name, f"goes to {output}")
    fix = f"Create {output.parent} writable for the server's user, or choose another logging.output."
    try:
        _try_to_write(output)
    except OSError as error:
        return failed(name, f"{output} cannot be written: {error.strerror or error}", fix)
    return ok(name, f"goes to {output}")


def _try_to_write(output: Path) -> None:
    """Open a log without changing it; for one that does not exist, check that its directory can be written.

    Raises:
        OSError: it cannot be written.
    """
    if output.exists():
        mode = output.stat().st_mode
        if stat.S_ISFIFO(mode):  # to open it would count as a writer for its reader
            return
        os.close(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        return
    parent = next(path for path in output.parents if path.exists())
    if not parent.is_dir():
        raise NotADirectoryError(None, f"{parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(None, f"{parent} cannot be written by this user")


class _Timex(ctypes.Structure):
    """The head of `struct timex` (adjtimex(2)); the kernel may write to the rest."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 512))


def kernel_time_state() -> int | None:
    """The result of adjtimex(2) without a change; None on systems without the call."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    state = int(call(ctypes.byref(_Timex(0)))) if call is not None else -1
    return state if state >= 0 else None


def check_clock(state: int | None) -> Result:
    """Whether the clock is synchronised.

    Args:
        state: of `kernel_time_state`.
    """
    name = "clock"
    if state is None:
        return skipped(name, "the system does not report whether it is synchronised")
    if state == _TIME_ERROR:
        return warning(
            name,
            "is not synchronised: metrics and logs may have the wrong time, and certificates may be refused",
            "Enable time synchronisation: timedatectl set-ntp true (in a container: on its host).",
        )
    return ok(name, "is synchronised")
