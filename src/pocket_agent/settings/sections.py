"""Every setting, declared once: its type with bounds, its default, its help, and when a change takes effect.

Times are in seconds and sizes in bytes. Sections are frozen, and mappings in them are read-only. `Settings()` has the
defaults; docs/settings.md, the environment variables and the reload are derived from here.
"""

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import types
from pocket_agent.settings.types import ValueKind, ValueType, format_duration, format_size


class Effect(StrEnum):
    """When a changed setting takes effect."""

    RELOAD = "reload"
    """When the server receives SIGHUP."""
    RESTART = "restart"
    """When the server is started again."""
    RENDER = "render"
    """When `pocket-agent monitoring render` writes the stack again; the server itself does not use it."""


RELOAD: Final = Effect.RELOAD
RESTART: Final = Effect.RESTART
RENDER: Final = Effect.RENDER

DEFAULT_DATA_DIR: Final = (
    "~/.local/share/pocket-agent; as a systemd service its StateDirectory, else /var/lib/pocket-agent"
)
"""What `default_data_dir` returns, for the documentation."""
SERVICE_DATA_DIR: Final = Path("/var/lib/pocket-agent")
"""The data directory of a system service."""

PERMISSION_MODES: Final = ("default", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions")
"""The values of the CLI's `--permission-mode` (2.1.330)."""
SETTING_SOURCES: Final = ("user", "project", "local")
"""The values of the CLI's `--setting-sources` (2.1.330)."""
TOOL: Final = r"[A-Za-z0-9_*-]+(?:\([^()]*\))?"
"""One tool, or one rule for its uses; text that the CLI would read as several of them does not match."""

INHERITED: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*", "TERM"),
    *("COLORTERM", "NO_COLOR", "CI", "EDITOR", "VISUAL", "PAGER", "XDG_*", "DISPLAY", "WAYLAND_DISPLAY"),
    *("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "GPG_*", "GIT_*"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "ENABLE_*", "BASH_*", "MCP_*", "MAX_*", "USE_BUILTIN_RIPGREP"),
    *("AWS_*", "GOOGLE_*", "GCLOUD_*", "CLOUD_ML_REGION", "CLOUDSDK_*", "VERTEX_*", "AZURE_*"),
    *("NODE_*", "NPM_CONFIG_*", "NVM_*", "VOLTA_*", "BUN_*", "DENO_*", "PYENV_*", "VIRTUAL_ENV", "UV_*", "PIP_*"),
    *("JAVA_HOME", "GRADLE_*", "MAVEN_*", "GOPATH", "GOROOT", "GOPROXY", "CARGO_*", "RUSTUP_*", "ANDROID_*"),
    *("DOCKER_*", "KUBECONFIG", "OTEL_*"),
)
"""Variables that development tools and the CLI need: paths, locale, proxies, and the CLI's own account."""


def home_dir(environ: Mapping[str, str]) -> Path | None:
    """The user's home directory: HOME, else that of the user database, else None."""
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def default_data_dir(environ: Mapping[str, str], uid: int) -> Path:
    """The data directory unless `data.dir` is set.

    For a systemd service it is the first directory of STATE_DIRECTORY (systemd.exec(5): set from `StateDirectory=`,
    colon-separated), or `SERVICE_DATA_DIR` when systemd started it (it sets INVOCATION_ID) as root. INVOCATION_ID
    alone is not enough, because desktop terminals inherit one.

    Args:
        uid: the user id that the server runs as.

    Raises:
        ConfigurationError: it is not a service, and the user has no home directory.
    """
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return Path(state)
    if uid == 0 and environ.get("INVOCATION_ID"):
        return SERVICE_DATA_DIR
    home = home_dir(environ)
    if home is None:
        raise ConfigurationError("there is no home directory; set HOME, or data.dir to an absolute path")
    return home / ".local" / "share" / "pocket-agent"


_ANY_PORT = types.number(0, 65535, " (0: any free port)")
_TOOLS = types.pattern_list("a list of tools such as WebFetch or Bash(rm:*)", TOOL)
_EMAIL = types.text("an email address", pattern=r"[^\s@]+@[^\s@]+")
_MIB = 2**20


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


Switch = Annotated[bool, types.BOOLEAN]
Port = Annotated[int, _ANY_PORT]
FixedPort = Annotated[int, types.number(1, 65535)]
OptionalPort = Annotated[int | None, _ANY_PORT.optional("off", "no such listener")]
Host = Annotated[str, types.HOST]
OptionalUrl = Annotated[str | None, types.URL.optional()]
Count = Annotated[int, types.number(1, 1_000_000)]
Seconds = Annotated[float, types.duration()]
SecondsAboveZero = Annotated[float, types.duration(positive=True)]
SecondsOrForever = Annotated[float, types.duration(note="; 0: no limit")]
Bytes = Annotated[int, types.size()]
BytesAboveZero = Annotated[int, types.size(1024)]
BytesOrUnlimited = Annotated[int, types.size(note="; 0: no limit")]
Share = Annotated[float, types.real(0.001, 0.999)]
# A burn rate of 14.4 must stay below a share of 1, or its alert could not fire: 1 - 1 / 14.4 is 0.93.
Objective = Annotated[float, types.real(0.94, 0.9999)]
OptionalFile = Annotated[Path | None, types.path().optional()]
HeaderName = Annotated[str | None, types.text("the name of a header", pattern=r"[A-Za-z0-9-]{1,100}").optional()]
Users = Annotated[tuple[str, ...], types.name_list("a list of users", most=1000)]
NetworkList = Annotated[tuple[str, ...], types.NETWORKS]
Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]
ForwardedHeader = Literal["x-forwarded", "forwarded"]
LimitMechanism = Literal["rlimit", "systemd"]
ConfinementMode = Literal["off", "data", "project"]
SynchronousMode = Literal["normal", "full"]
ResumeInterrupted = Literal["ask", "always", "never"]
NotifyWhen = Literal["unwatched", "always"]


class SettingsSection(BaseModel):
    """A group of settings: frozen, and without unknown names."""

    # An error would otherwise quote the value, which may be a secret. `load.build_settings` needs no validators of
    # sections, which take 2 MB and are built at their first use.
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True, defer_build=True
    )

    effect: ClassVar[Effect] = RELOAD
    """When a change takes effect, for the settings that do not declare it themselves."""


def setting(
    default: object, about: str, effect: Effect | None = None, *, flag: str = "", legacy: str = "", secret: bool = False
) -> Any:
    """A field of a section.

    Args:
        default: the value, or a function that returns it.
        about: the help, one or more sentences.
        flag: the command's option that sets it, where that is not its key.
        legacy: the name of its variable in the server's predecessor, which works too.
        secret: whether the value may be secret.
    """
    value = {"default_factory": default} if callable(default) else {"default": default}
    more: dict[str, Any] = {"effect": effect, "flag": flag, "legacy": legacy}
    return Field(**value, description=about, repr=not secret, json_schema_extra=more)


class TlsSettings(SettingsSection):
    """Encryption of the main listener."""

    enabled: Switch = setting(True, "Serve HTTPS and WSS; off only on a loopback host.", RESTART, flag="--no-tls")
    cert: OptionalFile = setting(
        None, "Certificate chain (PEM); when not set, a self-signed certificate is generated.", legacy="PA_TLS_CERT"
    )
    key: OptionalFile = setting(None, "Private key of the certificate (PEM).", legacy="PA_TLS_KEY")


class SsoSettings(SettingsSection):
    """Single sign-on through a reverse proxy that names the user in a header."""

    header: HeaderName = setting(
        None,
        "Header in which a trusted proxy names the signed-in user; the proxy must remove it from incoming requests.",
    )
    users: Users = setting((), "User names with full access through SSO.")
    viewers: Users = setting((), "User names with read-only access through SSO.")


class ServerSettings(SettingsSection):
    """Listeners and authentication."""

    host: Host = setting("127.0.0.1", "Address that the main listener binds to.", RESTART, flag="--host")
    port: Port = setting(8443, "Port of the main listener.", RESTART, flag="--port")
    plain_port: OptionalPort = setting(8080, "Port of the plain HTTP listener, always on loopback.", RESTART)
    public_url: Annotated[str | None, types.ORIGIN_URL.optional()] = setting(
        None,
        "Address under which other devices reach the server, if it differs from the addresses it listens on (behind a "
        "proxy, or by a host name): pairing links start with it, and requests from its pages count as same-origin.",
        RESTART,
    )
    auth: Switch = setting(True, "Require tokens; off only on a loopback host.", RESTART, flag="--no-auth")
    allowed_origins: Annotated[tuple[str, ...], types.ORIGINS] = setting(
        (), "Web origins that may connect, in addition to the server's own."
    )
    allowed_hosts: Annotated[tuple[str, ...], types.HOSTS] = setting(
        (),
        "Names accepted in the `Host` header, in addition to IP addresses, localhost, `server.host`, the host of "
        "`server.public_url` and, unless `server.auth` is off, the machine's own name and the names in "
        "`server.tls.cert` (except wildcards).",
    )
    trusted_proxies: NetworkList = setting((), "Reverse proxies whose forwarding headers are trusted.")
    forwarded: Annotated[ForwardedHeader, types.choice(ForwardedHeader)] = setting(
        "x-forwarded",
        "Headers that trusted proxies set: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239). The "
        "others are ignored, since a client may have sent them.",
    )
    sso: SsoSettings = Field(default_factory=SsoSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)


class DataSettings(SettingsSection):
    """The data directory."""

    dir: Annotated[Path, types.path()] = setting(
        lambda: default_data_dir(os.environ, os.getuid()),
        "Directory of the database, the spool files, the token and the certificate.",
        RESTART,
        flag="--data-dir",
    )


class LoggingSettings(SettingsSection):
    """The server's own log."""

    level: Annotated[Level, types.choice(Level, warn="warning")] = setting(
        "info", "Lowest level that is written.", flag="--log-level", legacy="PA_LOG_LEVEL"
    )
    format: Annotated[LogFormat, types.choice(LogFormat)] = setting(
        "json", "`json`: one JSON object a line. `text`: for reading in a terminal.", legacy="PA_LOG_FORMAT"
    )
    output: Annotated[
        Literal["stdout", "stderr"] | Path,
        types.path("stdout, stderr or the path of a file", words=frozenset({"stdout", "stderr"})),
    ] = setting("stdout", "Where the log is written.")
    fields: Annotated[Mapping[str, str | int | float | bool], types.LOG_FIELDS] = setting(
        _empty,
        "Fields added to every line; `service`, `environment` and `version` replace the server's own.",
    )
    max_size: BytesOrUnlimited = setting(16 * _MIB, "Size at which a log file is rotated to FILE.1.")
    max_files: Annotated[int, types.number(0, 1000)] = setting(5, "Number of rotated log files to keep.")


class LimitSettings(SettingsSection):
    """Limits on clients, executions and resources."""

    max_connections: Count = setting(100, "Maximum number of connected clients.", legacy="PA_MAX_CONNECTIONS")
    connections_per_address: Count = setting(64, "Maximum connections from one address (an IPv6 /64 counts as one).")
    connections_per_device: Count = setting(32, "Maximum number of connected clients of one device.")
    requests_per_second: Annotated[float, types.real(0.1, 1_000_000)] = setting(
        20.0, "Rate limit on connections and HTTP requests from one address; the burst is ten seconds' worth."
    )
    messages_per_second: Annotated[float, types.real(0.1, 1_000_000)] = setting(
        100.0, "Rate limit on messages of one device; the burst is five seconds' worth."
    )
    bytes_per_second: BytesAboveZero = setting(
        4 * _MIB, "Rate limit on the bytes in messages of one device; the burst is five seconds' worth."
    )
    exempt_addresses: NetworkList = setting(
        ("127.0.0.0/8", "::1/128"), "Addresses that the limits by address and by device above do not apply to."
    )
    max_projects: Count = setting(100, "Maximum number of projects.", legacy="PA_MAX_PROJECTS")
    conversations: Count = setting(50, "Maximum number of conversations per project, archived ones included.")
    max_executions: Count = setting(
        10,
        "Maximum number of running executions, including agents that work without a prompt; further prompts are "
        "queued.",
    )
    max_queued_prompts: Annotated[int, types.number(0, 1_000_000)] = setting(100, "Maximum queued prompts per project.")
    message_size: Annotated[int, types.size(1024, 64 * _MIB)] = setting(
        _MIB, "Largest frame that a client may send.", legacy="PA_MESSAGE_SIZE_LIMIT"
    )
    memory: BytesOrUnlimited = setting(
        0,
        "Memory that the server itself should stay below; exported for alerts, not enforced. A lower limit of its "
        "container takes precedence; without both it is half of the machine's memory.",
    )
    cost_usd_per_day: Annotated[float, types.real(0, 1_000_000, "; 0: no limit")] = setting(
        0.0, "Budget of all executions in a day (local time), in US dollars as reported by the CLI."
    )
    refuse_over_budget: Switch = setting(False, "Refuse new executions when the day's budget is used up.")
    resume_after_reset: Switch = setting(
        True,
        "Continue an execution that a usage limit of the account stopped by itself, up to a minute after the reset; "
        "off: a client continues it.",
    )
    min_free_disk: Bytes = setting(8 * _MIB, "Free space in the data directory below which executions are refused.")


class ExecutionSettings(SettingsSection):
    """How executions go on."""

    resume_interrupted: Annotated[ResumeInterrupted, types.choice(ResumeInterrupted)] = setting(
        "ask",
        "An execution whose process was lost, as with a restart of the machine: `ask` a client whether it continues, "
        "`always` continue it (three times at most, then ask), or `never`: end it in an error.",
    )


class TimeoutSettings(SettingsSection):
    """Time limits."""

    execution: SecondsOrForever = setting(
        3600.0,
        "Longest execution, and longest work without a prompt (subagents, turns started by the agent); time spent "
        "waiting for approvals does not count.",
        legacy="PA_EXECUTION_TIMEOUT",
    )
    idle: SecondsOrForever = setting(
        900.0,
        "A CLI process is closed after this time without a prompt, a subagent or a background command.",
        legacy="PA_IDLE_TIMEOUT",
    )
    ping_interval: SecondsAboveZero = setting(30.0, "Time between pings to a client.", legacy="PA_PING_INTERVAL")
    pong_timeout: SecondsAboveZero = setting(
        30.0, "A client that does not answer a ping within this time is disconnected.", legacy="PA_PONG_TIMEOUT"
    )
    shutdown: Seconds = setting(10.0, "Longest graceful shutdown.")


class WebsocketSettings(SettingsSection):
    """Delivery to clients."""

    write_timeout: SecondsAboveZero = setting(30.0, "A client that reads nothing for this long is closed with 4008.")
    tail_size: BytesAboveZero = setting(
        4 * _MIB, "Size of the newest encoded frames of each project that are kept in memory.", RESTART
    )
    send_buffer: BytesAboveZero = setting(
        _MIB, "Size of a connection's send buffer; no more frames are written to it while it is full."
    )


class AgentLimitSettings(SettingsSection):
    """Resource limits of one agent."""

    by: Annotated[LimitMechanism, types.choice(LimitMechanism)] = setting(
        "rlimit",
        "`rlimit`: limits on each process of an agent (setrlimit(2), Linux). `systemd`: limits on an agent with all its"
        " children, in a scope of the user's or the system's own systemd (systemd.resource-control(5)).",
    )
    memory: BytesOrUnlimited = setting(0, "Memory: RLIMIT_DATA of each process, or MemoryMax of the scope.")
    processes: Annotated[int, types.number(0, 1_000_000, "; 0: no limit")] = setting(
        0,
        "Processes and threads: RLIMIT_NPROC, which counts all processes of the user and does not apply to root, or "
        "TasksMax of the scope.",
    )
    cpu_time: SecondsOrForever = setting(0.0, "CPU time of each process (RLIMIT_CPU); not with `systemd`.")
    cpus: Annotated[float, types.real(0, 10_000, "; 0: no limit")] = setting(
        0.0, "Number of CPUs that an agent may use at a time (CPUQuota); only with `systemd`."
    )


class ClaudeSettings(SettingsSection):
    """The Claude Code CLI."""

    binary: Annotated[Path | None, types.path("a path or a name on PATH", bare_names=True).optional()] = setting(
        None, "The CLI to run; when not set, `claude` on PATH.", RESTART, flag="--claude"
    )
    max_processes: Count = setting(
        10, "Maximum number of CLI processes that are kept running; never less than the number of running executions."
    )
    max_line: BytesAboveZero = setting(16 * _MIB, "Longest CLI line; a longer one becomes an error entry.", RESTART)
    model: Annotated[str | None, types.text("a model name", pattern=r"[^\s-]\S*").optional()] = setting(
        None, "Model for projects that do not choose one; when not set, the CLI's own default."
    )
    permission_mode: Annotated[
        str | None, types.text("a permission mode of the CLI", pattern=r"[A-Za-z]+").optional()
    ] = setting(None, "Permission mode for projects that do not choose one; when not set, the CLI's own default.")
    allow_dangerously_skip_permissions: Switch = setting(False, "Let clients run agents without approvals.")
    permission_modes: Annotated[tuple[str, ...], types.choice_list(PERMISSION_MODES)] = setting(
        PERMISSION_MODES,
        "Permission modes that clients may choose; `bypassPermissions` also requires "
        "`claude.allow_dangerously_skip_permissions`.",
    )
    client_tools: Annotated[tuple[str, ...] | None, _TOOLS.optional("any", "all of them")] = setting(
        None,
        "Tools that clients may let the agent use without asking (`allowed_tools`): a name such as `Bash` allows all of"
        " its uses, a rule such as `Bash(git log:*)` only itself.",
    )
    disallowed_tools: Annotated[tuple[str, ...], _TOOLS] = setting(
        (), "Tools, or rules for their uses, that no agent may use, whatever a client chooses."
    )
    setting_sources: Annotated[tuple[str, ...], types.choice_list(SETTING_SOURCES)] = setting(
        SETTING_SOURCES,
        "Settings files that the CLI reads: the user's (`user`), `.claude/settings.json` (`project`) and "
        "`.claude/settings.local.json` (`local`) of the project, whose hooks and MCP servers run without asking. Use "
        "`user` alone for projects of other people; permissions granted in a project with the CLI are then ignored.",
    )
    inherit: Annotated[
        tuple[str, ...],
        types.pattern_list("a list of names, each with or without a trailing *", r"\*|[A-Za-z_][A-Za-z0-9_]*\*?"),
    ] = setting(
        INHERITED,
        "Variables of the server's own environment that the CLI inherits; `*` alone means all. The server's own "
        "variables (`PA_*`) are never inherited.",
        RESTART,
    )
    environment: Annotated[Mapping[str, str], types.VARIABLES] = setting(
        _empty, "Additional environment variables for the CLI.", secret=True
    )
    confinement: Annotated[
        ConfinementMode | None,
        types.choice(ConfinementMode).optional("auto", "`data` where bubblewrap works, else `off` with a warning"),
    ] = setting(
        None,
        "What agents can access on the machine, enforced by bubblewrap. `data`: everything except the server's data "
        "directory, keys and token files. `project`: in addition, only the project, its temporary directory and the "
        "CLI's own configuration are writable. With `data` or `project` the server does not start if bubblewrap does "
        "not work.",
        RESTART,
    )
    limits: AgentLimitSettings = Field(default_factory=AgentLimitSettings)
    interrupt_grace: Seconds = setting(10.0, "Time between an interrupt and SIGTERM.")
    terminate_grace: Seconds = setting(5.0, "Time between SIGTERM and SIGKILL.")
    max_spool: BytesAboveZero = setting(256 * _MIB, "Size of a process's output above which it is replaced.")


class ProjectSettings(SettingsSection):
    """Where projects may be."""

    allowed_roots: Annotated[tuple[Path, ...], types.path_list("a list of absolute paths")] = setting(
        (), "Directories that must contain every project; when empty, projects may be anywhere."
    )
    worktrees: Annotated[Path | None, types.path("an absolute path").optional()] = setting(
        None, "Folder of the git worktrees of conversations; by default next to `data.dir`, with `-worktrees` appended."
    )


class AuditSettings(SettingsSection):
    """The audit log."""

    enabled: Switch = setting(True, "Record actions with user, time and address in `audit.log`.", RESTART)


class StorageSettings(SettingsSection):
    """The database, and retention of each project's log."""

    synchronous: Annotated[SynchronousMode, types.choice(SynchronousMode)] = setting(
        "normal",
        "`normal` survives a crash of the server; `full` also survives a power failure, and is slower.",
        RESTART,
    )
    max_entries: Annotated[int, types.number(0, 10**12, "; 0: no limit")] = setting(1_000_000, "Entries per project.")
    max_size: BytesOrUnlimited = setting(1024 * _MIB, "Size of the entries kept per project.")
    max_age: SecondsOrForever = setting(90 * 86400.0, "Age of the entries kept per project.")


class MetricsSettings(SettingsSection):
    """The listener for Prometheus."""

    effect = RESTART
    enabled: Switch = setting(True, "Serve /metrics.")
    host: Host = setting("127.0.0.1", "Address of the metrics listener; beyond loopback it requires a token.")
    port: Port = setting(9090, "Port of the metrics listener.", flag="--metrics-port")
    token_file: OptionalFile = setting(
        None,
        "File with the token that a scrape must send (Authorization: Bearer); when not set, a listener beyond loopback "
        "generates `metrics-token` in the data directory.",
    )
    models: Annotated[tuple[str, ...], types.name_list("a list of parts of model names", most=8)] = setting(
        ("opus", "sonnet", "haiku"),
        "Values of the `model` label: a model is counted under the first value that its name contains, else under "
        "`other`.",
    )
    projects: Annotated[tuple[str, ...], types.name_list("a list of project names", most=8)] = setting(
        (), "Projects whose tokens and cost are exported by name; all others are exported together as `other`."
    )


class TracesSettings(SettingsSection):
    """OpenTelemetry traces; the standard `OTEL_*` variables apply where a setting is not set."""

    effect = RESTART
    enabled: Annotated[bool | None, types.BOOLEAN.optional()] = setting(
        None, "Export traces; when not set, `OTEL_TRACES_EXPORTER=otlp` enables it."
    )
    endpoint: OptionalUrl = setting(
        None,
        "Collector, such as http://127.0.0.1:4318; `/v1/traces` is appended. When not set: "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, else that address.",
    )
    headers: Annotated[Mapping[str, str], types.HEADERS] = setting(
        _empty,
        "HTTP headers for the collector, in addition to `OTEL_EXPORTER_OTLP_HEADERS`.",
        secret=True,
    )
    sample_ratio: Annotated[float | None, types.real(0, 1).optional()] = setting(
        None,
        "Share of executions that are traced, unless the client's trace decides; when not set: `OTEL_TRACES_SAMPLER`, "
        "else all.",
    )
    service_name: Annotated[str | None, types.text("a name").optional()] = setting(
        None, "`service.name`; when not set: `OTEL_SERVICE_NAME`, else the log's `service` field."
    )
    attributes: Annotated[Mapping[str, str], types.ATTRIBUTES] = setting(_empty, "Additional resource attributes.")
    agents: Switch = setting(True, "Let the CLI export its own spans into the same traces.")
    agent_metrics: Switch = setting(
        True,
        "Let the CLI export its own metrics and events to the same collector too (`/v1/metrics`, `/v1/logs`), unless "
        "its telemetry is configured by the user (`CLAUDE_CODE_ENABLE_TELEMETRY`).",
    )


class HealthSettings(SettingsSection):
    """The health checks."""

    interval: SecondsAboveZero = setting(
        15.0, "Time between two rounds of checks, and between two readings of the memory and CPU of agents."
    )
    low_disk: Bytes = setting(1024 * _MIB, "Free space of the data directory below which the disk check warns.")
    certificate_notice: Seconds = setting(7 * 86400.0, "The certificate check warns this long before it expires.")
    loop_lag: SecondsAboveZero = setting(1.0, "The event loop check warns when the lag reaches this time.")


class MonitoringSettings(SettingsSection):
    """The stack that `pocket-agent monitoring render` writes: ports of its programs, and receivers of alerts."""

    effect = RENDER
    prometheus_port: FixedPort = setting(9091, "Port of Prometheus.")
    alertmanager_port: FixedPort = setting(9093, "Port of Alertmanager.")
    node_port: FixedPort = setting(9100, "Port of the node exporter.")
    blackbox_port: FixedPort = setting(9115, "Port of the blackbox exporter.")
    grafana_port: FixedPort = setting(3000, "Port of Grafana.")
    loki_port: FixedPort = setting(3100, "Port of Loki.")
    tempo_port: FixedPort = setting(3200, "Port of Tempo.")
    otlp_port: FixedPort = setting(4318, "Port of the OpenTelemetry collector, for OTLP over HTTP.")
    collector_metrics_port: FixedPort = setting(
        8889, "Port of the OpenTelemetry collector, at which Prometheus scrapes the metrics of agents."
    )
    promtail: Switch = setting(
        False, "Also render the files of Promtail, which is past its end of life and which Grafana Alloy replaces."
    )
    scrape_interval: Annotated[float, types.duration(least=0.1, most=60.0)] = setting(
        15.0, "Time between two scrapes; rules use windows of 5 minutes, which need several scrapes."
    )
    retention: SecondsAboveZero = setting(30 * 86400.0, "How long Prometheus keeps its data.")
    slack_url_file: OptionalFile = setting(None, "File with the URL of a Slack webhook.")
    slack_channel: Annotated[str, types.text("a channel such as #alerts", pattern=r"[#@]\S+")] = setting(
        "#pocket-agent-alerts", "Slack channel of the alerts."
    )
    pagerduty_key_file: OptionalFile = setting(None, "File with the integration key of PagerDuty (Events API v2).")
    pagerduty_url: Annotated[str, types.URL] = setting(
        "https://events.pagerduty.com/v2/enqueue", "PagerDuty's Events API."
    )
    email_to: Annotated[str | None, _EMAIL.optional()] = setting(None, "Email address that alerts are sent to.")
    email_from: Annotated[str, _EMAIL] = setting("pocket-agent@localhost", "Email address that alerts are sent from.")
    email_smarthost: Annotated[str, types.text("HOST:PORT", pattern=r"[^\s:]+:[0-9]{1,5}")] = setting(
        "localhost:25", "Mail server."
    )
    email_user: Annotated[str | None, types.text("a name").optional()] = setting(None, "User name for the mail server.")
    email_password_file: OptionalFile = setting(None, "File with the password for the mail server.")
    webhook_url: OptionalUrl = setting(
        None, "URL that receives every alert as Alertmanager's JSON; it is written into Alertmanager's configuration."
    )
    webhook_url_file: OptionalFile = setting(
        None,
        "File with the webhook URL, for a URL that is a secret; Alertmanager (0.26 or newer) reads the file itself.",
    )
    watchdog_url: OptionalUrl = setting(
        None,
        "Dead man's switch: a service that receives the Watchdog alert every few minutes and notifies you when it "
        "stops.",
    )
    watchdog_url_file: OptionalFile = setting(
        None, "File with the watchdog URL, for a URL that is a secret, as `monitoring.webhook_url_file`."
    )
    ca_file: OptionalFile = setting(
        None,
        "Certificate (PEM) that the probes trust; when not set, the server's self-signed certificate, or with "
        "`server.tls.cert` the system's CA certificates.",
    )
    server_name: Annotated[str | None, types.text("a host name", pattern=r"[A-Za-z0-9][A-Za-z0-9.-]*").optional()] = (
        setting(None, "Host name in `server.tls.cert`; when not set, the address in `server.host`.")
    )
    grafana_url: OptionalUrl = setting(
        None, "Address of Grafana, for links to panels in notifications; when not set, its port on this machine."
    )
    runbook_url: OptionalUrl = setting(
        None, "Base URL of the runbooks that alerts link to; when not set, the server's own /docs/runbooks."
    )


class NotificationSettings(SettingsSection):
    """Messages to users who are not watching, through apprise; see notifications.md."""

    urls: Annotated[tuple[str, ...], types.SERVICES] = setting(
        (), "Destinations of messages. Anyone who knows these URLs can use them.", secret=True
    )
    urls_file: OptionalFile = setting(None, "File with more destinations, one a line; `#` starts a comment.")
    base_url: OptionalUrl = setting(
        None,
        "Address of the web client for links in messages; when not set, `server.public_url`, else the server's own.",
    )
    approval: Switch = setting(True, "Notify of tool requests that wait for approval.")
    finished: Switch = setting(True, "Notify of executions that succeeded.")
    failed: Switch = setting(True, "Notify of executions that failed or timed out.")
    when: Annotated[NotifyWhen, types.choice(NotifyWhen)] = setting(
        "unwatched", "`unwatched`: only while no client that could answer is watching the project."
    )
    approval_delay: Seconds = setting(15.0, "Time that a tool request must wait, unwatched, before a message is sent.")
    finished_after: Seconds = setting(60.0, "Shortest execution whose success is reported.")
    project_pause: Seconds = setting(
        60.0, "Shortest time between two messages about a project; events in between are combined into one message."
    )
    max_per_hour: Annotated[int, types.number(1, 3600)] = setting(
        30, "Maximum number of messages within an hour; later events are combined into one message."
    )
    content: Switch = setting(False, "Include the start of prompts and details of tool requests.")


class ObjectiveSettings(SettingsSection):
    """Service level objectives over 30 days."""

    effect = RENDER
    availability: Objective = setting(0.999, "Requests without a server error.")
    latency: Objective = setting(0.99, "Requests answered within 100 ms.")
    success: Objective = setting(0.95, "Executions that succeed.")


class AlertSettings(SettingsSection):
    """Thresholds of alerts, rendered into rules for Prometheus; the server itself does not use them."""

    effect = RENDER
    for_scale: Annotated[float, types.real(0, 100)] = setting(
        1.0, "Factor applied to the time that each condition must hold before its alert fires."
    )
    slow_execution: Annotated[float, types.duration(least=1.0, most=600.0)] = setting(
        120.0, "SlowExecutions: fires when the slowest 5 % of executions take at least this long."
    )
    error_rate: Annotated[float, types.real(0, 1_000_000)] = setting(
        0.05, "HighErrorRate: minimum server errors per second; `alerts.error_ratio` must be exceeded too."
    )
    error_ratio: Share = setting(
        0.05, "HighErrorRate: minimum server errors per received message; `alerts.error_rate` must be exceeded too."
    )
    failed_ratio: Share = setting(0.2, "ExecutionsFailing: share of executions that fail.")
    limit_ratio: Share = setting(0.9, "Share of a limit (connections, files, budget, ...) above which its alert fires.")
    memory_ratio: Share = setting(0.9, "HighMemoryUsage: share of the memory limit above which it fires.")
    disk_free: BytesAboveZero = setting(1024 * _MIB, "DiskSpaceLow: fires below this free space of the data directory.")
    filesystem_free: Share = setting(
        0.05, "FilesystemSpaceLow, FilesystemInodesLow: share of free space or inodes below which it fires."
    )
    machine_memory: Share = setting(0.1, "MachineMemoryLow: share of available memory below which it fires.")
    machine_load: Annotated[float, types.real(0.1, 1000)] = setting(
        8.0, "MachineOverloaded: load for each processor, over 15 minutes, above which it fires."
    )
    certificate: SecondsAboveZero = setting(14 * 86400.0, "TLSCertificateExpiring: fires this long before it expires.")
    loop_lag: Annotated[float, types.duration(least=0.001, most=1.0)] = setting(
        0.25, "EventLoopLagHigh: fires when the p99 of the event loop lag reaches this time."
    )
    agent_memory_ratio: Share = setting(0.5, "AgentMemoryHigh: share of the machine's memory that one agent may use.")
    agent_cpu_ratio: Share = setting(0.9, "AgentCpuHigh: share of the machine's CPU that one agent may use.")
    repeated_calls: Annotated[int, types.number(2, 1000)] = setting(
        20, "AgentRepeatsItself: fires when an agent makes the same tool call this many times in a row."
    )
    silence: Annotated[float, types.duration(least=1.0)] = setting(
        900.0,
        "AgentStalled: fires when a working agent that waits for no approval has printed nothing for this long.",
    )
    restarts: Annotated[int, types.number(1, 10)] = setting(3, "PocketAgentFlapping: outages, restarts in 30 minutes.")
    rejected_connections: Count = setting(
        20,
        "ConnectionsRejected: rejections within 15 minutes above which it fires; one rejection for "
        "`limits.max_connections` is enough.",
    )
    dropped_clients: Count = setting(5, "SlowConsumersDropped: clients dropped within 15 minutes above which it fires.")
    objectives: ObjectiveSettings = Field(default_factory=ObjectiveSettings)


class Settings(SettingsSection):
    """All settings; `Settings()` has the defaults."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    executions: ExecutionSettings = Field(default_factory=ExecutionSettings)
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings)
    websocket: WebsocketSettings = Field(default_factory=WebsocketSettings)
    claude: ClaudeSettings = Field(default_factory=ClaudeSettings)
    projects: ProjectSettings = Field(default_factory=ProjectSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    traces: TracesSettings = Field(default_factory=TracesSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    notifications: NotificationSettings = Field(default_factory=NotificationSettings)
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    demo: Switch = setting(False, "Use the scripted demo model; only on a loopback host.", RESTART, flag="--demo")

    @property
    def current(self) -> "Settings":
        """Itself: a snapshot can be given wherever `CurrentSettings` are expected."""
        return self


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: its dotted path, such as `server.tls.cert`.
        type: what it accepts.
        variable: the environment variable that sets it.
        flag, legacy: see `setting`.
    """

    key: str
    type: ValueType
    help: str
    effect: Effect
    variable: str
    flag: str
    legacy: str
    _field: FieldInfo

    @property
    def default(self) -> object:
        """The default; that of `data.dir` depends on the user."""
        return self._field.get_default(call_default_factory=True)

    def value(self, settings: "Settings") -> object:
        """Its value in the given settings."""
        return attrgetter(self.key)(settings)

    def show(self, value: object) -> object:
        """A value as plain data for print: with its unit, paths as texts, lists as lists."""
        if value is None:
            return self.type.null
        if self.type.kind is ValueKind.DURATION and isinstance(value, float):
            return format_duration(value)
        if self.type.kind is ValueKind.SIZE and isinstance(value, int):
            return format_size(value)
        if isinstance(value, tuple):
            return [str(item) for item in value]
        if isinstance(value, Mapping):
            return dict(value)
        return value if isinstance(value, bool | int) else str(value)


def _walk(section: type[SettingsSection], prefix: str) -> Iterator[Setting]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, SettingsSection):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            type_ = next(item for item in field.metadata if isinstance(item, ValueType))
            more: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]  # see `setting`
            key = prefix + name
            yield Setting(
                key,
                type_,
                field.description or "",
                more["effect"] or section.effect,
                "PA_" + key.upper().replace(".", "_"),
                more["flag"] or "--" + key.replace(".", "-").replace("_", "-"),
                more["legacy"],
                field,
            )


SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType({found.key: found for found in _walk(Settings, "")})
"""Every setting by its dotted key, in the order of print."""

SECTION_KEYS: Final = frozenset(key.rsplit(".", depth)[0] for key in SETTINGS for depth in range(1, key.count(".") + 1))
"""The dotted keys of the sections: `server`, `server.tls`, ..."""
