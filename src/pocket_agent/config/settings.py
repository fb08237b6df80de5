"""Every setting with its default, its bounds and its help: the one place they are written.

Times are seconds and sizes are bytes, whatever units they were given in. Sections are frozen;
mappings in them are read-only. `Settings()` holds the defaults.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pocket_agent.config.agent import INHERITED, PERMISSION_MODES, SETTING_SOURCES, TOOLS, VARIABLE_NAMES
from pocket_agent.config.collection import (
    address_list,
    attribute_map,
    choice_list,
    constants,
    header_map,
    host_list,
    name_list,
    network_list,
    origin_list,
    path_list,
    variables,
)
from pocket_agent.config.directory import default_data_dir
from pocket_agent.config.form import boolean, choice, duration, host, number, path, real, size, text
from pocket_agent.config.url import origin_url, url

_ANY_PORT = number(0, 65535, " (0: any free port)")
_MEBIBYTE = 2**20

Switch = Annotated[bool, boolean()]
Port = Annotated[int, _ANY_PORT]
FixedPort = Annotated[int, number(1, 65535)]
OptionalPort = Annotated[int | None, _ANY_PORT.optional("off", "no such listener")]
Host = Annotated[str, host()]
Count = Annotated[int, number(1, 1_000_000)]
Seconds = Annotated[float, duration()]
SecondsAboveZero = Annotated[float, duration(positive=True)]
SecondsOrForever = Annotated[float, duration(note="; 0: no limit")]
Bytes = Annotated[int, size()]
BytesAboveZero = Annotated[int, size(1024)]
BytesOrUnlimited = Annotated[int, size(note="; 0: no limit")]
Share = Annotated[float, real(0.001, 0.999)]
# A burn rate of 14.4 must stay below a share of 1, or its alert could not fire: 1 - 1 / 14.4 is 0.93.
Objective = Annotated[float, real(0.94, 0.9999)]
OptionalFile = Annotated[Path | None, path().optional()]
Level = Literal["debug", "info", "warning", "error"]


class Section(BaseModel):
    """A group of settings; frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)


class TlsSettings(Section):
    """Encryption of the main listener."""

    enabled: Switch = Field(default=True, description="Serve HTTPS and WSS; off only on a loopback host.")
    cert: OptionalFile = Field(
        default=None, description="Certificate chain (PEM); without one, a self-signed certificate is made."
    )
    key: OptionalFile = Field(default=None, description="Private key of the certificate (PEM).")


class SsoSettings(Section):
    """Single sign-on by a reverse proxy that names the user in a header."""

    header: Annotated[str | None, text("the name of a header", pattern=r"[A-Za-z0-9-]{1,100}").optional()] = Field(
        default=None,
        description="Header in which a trusted proxy names the user that it has signed in; it has to take it away from "
        "whatever comes from outside.",
    )
    users: Annotated[tuple[str, ...], name_list("a list of users", most=1000)] = Field(
        default=(), description="Users that may come in so, as the proxy names them."
    )
    viewers: Annotated[tuple[str, ...], name_list("a list of users", most=1000)] = Field(
        default=(), description="Users that may come in so and only watch."
    )


class ServerSettings(Section):
    """Where the server listens and whom it lets in."""

    host: Host = Field(default="127.0.0.1", description="Address that the main listener binds to.")
    port: Port = Field(default=8443, description="Port of the main listener.")
    plain_port: OptionalPort = Field(
        default=8080,
        description="Port of the plain HTTP listener, which is bound to loopback whatever the host is.",
    )
    public_url: Annotated[str | None, origin_url().optional()] = Field(
        default=None,
        description="Address under which other devices reach the server, if it is another than those it listens on "
        "(behind a proxy, by a name): links to pair begin with it, and its pages are the server's own.",
    )
    auth: Switch = Field(default=True, description="Ask every connection for a token; off only on a loopback host.")
    allowed_origins: Annotated[tuple[str, ...], origin_list()] = Field(
        default=(), description="Web origins that may connect beside the server's own."
    )
    allowed_hosts: Annotated[tuple[str, ...], host_list()] = Field(
        default=(),
        description="Names by which the server may be asked for (`Host`), beside IP addresses, localhost, "
        "`server.host`, the host of `server.public_url` and, unless `server.auth` is off, the machine's own name and "
        "those in `server.tls.cert` (but not those with a `*`).",
    )
    trusted_proxies: Annotated[tuple[str, ...], network_list()] = Field(
        default=(),
        description="Addresses of reverse proxies, whose word counts for where a request comes from.",
    )
    forwarded: Annotated[Literal["x-forwarded", "forwarded"], choice("x-forwarded", "forwarded")] = Field(
        default="x-forwarded",
        description="What trusted proxies write: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239). "
        "The other is not looked at, since a client may have sent it.",
    )
    sso: SsoSettings = Field(default_factory=SsoSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)


class DataSettings(Section):
    """What the server keeps."""

    dir: Annotated[Path, path()] = Field(
        default_factory=lambda: default_data_dir(os.environ, os.getuid()),
        description="Directory of the database, the spool files, the token and the certificate.",
    )


class LoggingSettings(Section):
    """The server's own log."""

    level: Annotated[Level, choice("debug", "info", "warning", "error", synonyms={"warn": "warning"})] = Field(
        default="info", description="The least severe lines to write."
    )
    format: Annotated[Literal["json", "text"], choice("json", "text")] = Field(
        default="json", description="One JSON object a line, or text for people."
    )
    output: Annotated[
        Literal["stdout", "stderr"] | Path,
        path("stdout, stderr or the path of a file", words=frozenset({"stdout", "stderr"})),
    ] = Field(default="stdout", description="Where the lines go.")
    fields: Annotated[Mapping[str, str | int | float | bool], constants()] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="Fields added to every line; `service`, `environment` and `version` replace the server's own.",
    )
    max_size: BytesOrUnlimited = Field(
        default=16 * _MEBIBYTE, description="Size at which a log file becomes FILE.1 and a new one begins."
    )
    max_files: Annotated[int, number(0, 1000)] = Field(default=5, description="Full log files that are kept.")


class LimitSettings(Section):
    """How much of everything there may be."""

    max_connections: Count = Field(default=100, description="Clients connected at a time.")
    connections_per_address: Count = Field(
        default=64, description="Connections from one address (an IPv6 /64 counts as one) at a time."
    )
    connections_per_device: Count = Field(default=32, description="Clients of one device connected at a time.")
    requests_per_second: Annotated[float, real(0.1, 1_000_000)] = Field(
        default=20.0,
        description="Connections, and HTTP requests, from one address; ten seconds' worth may come at once.",
    )
    messages_per_second: Annotated[float, real(0.1, 1_000_000)] = Field(
        default=100.0, description="Messages of one device; five seconds' worth may come at once."
    )
    bytes_per_second: BytesAboveZero = Field(
        default=4 * _MEBIBYTE, description="Size of the messages of one device; five seconds' worth may come at once."
    )
    exempt_addresses: Annotated[tuple[str, ...], network_list()] = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Addresses for which the limits by address and by device, above, do not count.",
    )
    max_projects: Count = Field(default=100, description="Projects.")
    max_executions: Count = Field(
        default=10,
        description="Executions running at a time, agents that work without a prompt included; further prompts wait.",
    )
    max_queued_prompts: Annotated[int, number(0, 1_000_000)] = Field(
        default=100, description="Prompts that wait in one project."
    )
    message_size: Annotated[int, size(1024, 64 * _MEBIBYTE)] = Field(
        default=_MEBIBYTE, description="Largest frame that a client may send."
    )
    memory: BytesOrUnlimited = Field(
        default=0,
        description="Memory that the server itself should stay below; only exported, for alerts. The limit of "
        "its container counts if that is lower.",
    )
    cost_usd_per_day: Annotated[float, real(0, 1_000_000, "; 0: no limit")] = Field(
        default=0.0,
        description="Budget of all executions of a day (local time), in US dollars as the CLI reckons them.",
    )
    refuse_over_budget: Switch = Field(
        default=False, description="Refuse new executions once the day's budget is used up, instead of only telling."
    )
    min_free_disk: Bytes = Field(
        default=8 * _MEBIBYTE,
        description="Free space of the data directory below which new executions are refused.",
    )


class TimeoutSettings(Section):
    """How long things may take."""

    execution: SecondsOrForever = Field(
        default=3600.0,
        description="Longest execution, and longest work without a prompt (subagents, turns of the agent's own); "
        "time spent waiting for approvals does not count.",
    )
    idle: SecondsOrForever = Field(
        default=900.0,
        description="A CLI process is closed after this time without a prompt, a subagent or a background command.",
    )
    ping_interval: SecondsAboveZero = Field(default=30.0, description="Time between pings to a client.")
    pong_timeout: SecondsAboveZero = Field(
        default=30.0, description="A client that has not answered a ping for this long is disconnected."
    )
    shutdown: Seconds = Field(default=10.0, description="Longest graceful stop.")


class WebsocketSettings(Section):
    """Delivery to clients."""

    write_timeout: SecondsAboveZero = Field(
        default=30.0, description="A client whose connection takes nothing for this long is closed with 4008."
    )
    tail_size: BytesAboveZero = Field(
        default=4 * _MEBIBYTE, description="Newest frames of each project that are kept in memory, encoded."
    )
    send_buffer: BytesAboveZero = Field(
        default=_MEBIBYTE,
        description="Bytes waiting in one connection beyond which nothing more is handed to it.",
    )


class AgentLimitSettings(Section):
    """What one agent may use of the machine."""

    by: Annotated[Literal["rlimit", "systemd"], choice("rlimit", "systemd")] = Field(
        default="rlimit",
        description="`rlimit`: each process of an agent by itself (setrlimit(2), Linux). `systemd`: an agent with all "
        "that it starts, in a scope of the user's or the system's own systemd (systemd.resource-control(5)).",
    )
    memory: BytesOrUnlimited = Field(
        default=0, description="Memory: RLIMIT_DATA of each process, or MemoryMax of the scope."
    )
    processes: Annotated[int, number(0, 1_000_000, "; 0: no limit")] = Field(
        default=0,
        description="Processes and threads: RLIMIT_NPROC, which counts all of the user's and not those of root, or "
        "TasksMax of the scope.",
    )
    cpu_time: SecondsOrForever = Field(
        default=0.0, description="Processor time of each process (RLIMIT_CPU); not with `systemd`."
    )
    cpus: Annotated[float, real(0, 10_000, "; 0: no limit")] = Field(
        default=0.0, description="Processors' worth of time of an agent at any moment (CPUQuota); `systemd` alone."
    )


class ClaudeSettings(Section):
    """The Claude Code CLI."""

    binary: Annotated[Path | None, path("a path or a name on PATH", bare_names=True).optional()] = Field(
        default=None, description="The CLI to run; without one, `claude` on PATH."
    )
    max_processes: Count = Field(
        default=10, description="CLI processes kept running at a time; at least as many as there may be executions."
    )
    max_line: BytesAboveZero = Field(
        default=16 * _MEBIBYTE, description="Longest line of the CLI; a longer one becomes an error entry."
    )
    model: Annotated[str | None, text("a model name", pattern=r"[^\s-]\S*").optional()] = Field(
        default=None, description="Model for projects that choose none; without one, the CLI's own choice."
    )
    permission_mode: Annotated[str | None, text("a permission mode of the CLI", pattern=r"[A-Za-z]+").optional()] = (
        Field(
            default=None,
            description="Permission mode for projects that choose none; without one, the CLI's own choice.",
        )
    )
    allow_dangerously_skip_permissions: Switch = Field(
        default=False, description="Let clients run the agent without asking for approvals."
    )
    permission_modes: Annotated[tuple[str, ...], choice_list(*PERMISSION_MODES)] = Field(
        default=PERMISSION_MODES,
        description="Permission modes that clients may choose; `bypassPermissions` only together with "
        "`claude.allow_dangerously_skip_permissions`.",
    )
    client_tools: Annotated[tuple[str, ...] | None, TOOLS.optional("any", "all of them")] = Field(
        default=None,
        description="Tools that clients may let the agent use without asking (`allowed_tools`): a name such as `Bash` "
        "for all of its uses, or a rule such as `Bash(git log:*)` for itself.",
    )
    disallowed_tools: Annotated[tuple[str, ...], TOOLS] = Field(
        default=(), description="Tools, or rules for their uses, that no agent may use, whatever clients choose."
    )
    setting_sources: Annotated[tuple[str, ...], choice_list(*SETTING_SOURCES)] = Field(
        default=SETTING_SOURCES,
        description="Where the CLI reads its own settings: the user's, and `.claude/settings.json` (`project`) and "
        "`.claude/settings.local.json` (`local`) of the project, whose hooks and servers run once they are accepted. "
        "`user` alone is for projects of others; what you have allowed in a project with the CLI does not count then.",
    )
    inherit: Annotated[tuple[str, ...], VARIABLE_NAMES] = Field(
        default=INHERITED,
        description="Variables of the server's own environment that the CLI gets; `*` alone means all. Those of the "
        "server itself (`PA_*`) never.",
    )
    environment: Annotated[Mapping[str, str], variables()] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="Further environment variables for the CLI.",
        repr=False,
    )
    confinement: Annotated[
        Literal["off", "data", "project"] | None,
        choice("off", "data", "project").optional("auto", "`data` where bubblewrap works, else `off` with a warning"),
    ] = Field(
        default=None,
        description="What agents can see of the machine, by bubblewrap. `data`: everything but the server's own data "
        "directory, keys and files of tokens. `project`: beyond that, nothing outside of the project, its temporary "
        "directory and the CLI's own configuration can be written to. With `data` or `project` the server does "
        "not start where bubblewrap does not work.",
    )
    limits: AgentLimitSettings = Field(default_factory=AgentLimitSettings)
    interrupt_grace: Seconds = Field(
        default=10.0, description="Time to end after an interrupt, before it is terminated."
    )
    terminate_grace: Seconds = Field(default=5.0, description="Time to end after SIGTERM, before SIGKILL.")
    max_spool: BytesAboveZero = Field(
        default=256 * _MEBIBYTE,
        description="Size of a process's output file beyond which the process is replaced.",
    )


class ProjectSettings(Section):
    """Where projects may be."""

    allowed_roots: Annotated[tuple[Path, ...], path_list("a list of absolute paths")] = Field(
        default=(), description="Directories that projects must be in; none: anywhere."
    )


class AuditSettings(Section):
    """The audit log."""

    enabled: Switch = Field(
        default=True, description="Write who did what, when and from where to `audit.log` in the data directory."
    )


class StorageSettings(Section):
    """The database, and how much of each project's log is kept."""

    synchronous: Annotated[Literal["normal", "full"], choice("normal", "full")] = Field(
        default="normal",
        description="`normal` survives a crash of the server, `full` a power cut too, at a slower pace.",
    )
    max_entries: Annotated[int, number(0, 10**12, "; 0: no limit")] = Field(
        default=1_000_000, description="Entries kept per project."
    )
    max_size: BytesOrUnlimited = Field(default=1024 * _MEBIBYTE, description="Size of the entries kept per project.")
    max_age: SecondsOrForever = Field(default=90 * 86400.0, description="Age of the entries kept per project.")


class MetricsSettings(Section):
    """The listener for Prometheus."""

    enabled: Switch = Field(default=True, description="Serve /metrics.")
    host: Host = Field(
        default="127.0.0.1",
        description="Address that the metrics listener binds to; beyond loopback it asks for a token.",
    )
    port: Port = Field(default=9090, description="Port of the metrics listener.")
    token_file: OptionalFile = Field(
        default=None,
        description="File with the token that a scrape has to show (Authorization: Bearer); without one, a listener "
        "beyond loopback makes `metrics-token` in the data directory.",
    )
    models: Annotated[tuple[str, ...], name_list("a list of parts of model names", most=8)] = Field(
        default=("opus", "sonnet", "haiku"),
        description="Values of the `model` label: a model counts under the first that its name contains, else "
        "under `other`.",
    )
    projects: Annotated[tuple[str, ...], name_list("a list of project names", most=8)] = Field(
        default=(),
        description="Projects whose tokens and cost are exported by name; all others together are `other`.",
    )


class TracesSettings(Section):
    """Traces by OpenTelemetry; what is not set here comes from the standard `OTEL_*` variables."""

    enabled: Annotated[bool | None, boolean().optional()] = Field(
        default=None, description="Export traces; when not set, `OTEL_TRACES_EXPORTER=otlp` switches them on."
    )
    endpoint: Annotated[str | None, url().optional()] = Field(
        default=None,
        description="Collector, such as http://127.0.0.1:4318; `/v1/traces` is added. When not set: "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, else that address.",
    )
    headers: Annotated[Mapping[str, str], header_map()] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="HTTP headers for the collector, beside those of `OTEL_EXPORTER_OTLP_HEADERS`.",
        repr=False,
    )
    sample_ratio: Annotated[float | None, real(0, 1).optional()] = Field(
        default=None,
        description="Share of executions that are traced, unless the client's own trace decides; when not set: "
        "`OTEL_TRACES_SAMPLER`, else all.",
    )
    service_name: Annotated[str | None, text("a name").optional()] = Field(
        default=None,
        description="`service.name`; when not set: `OTEL_SERVICE_NAME`, else the log's `service` field.",
    )
    attributes: Annotated[Mapping[str, str], attribute_map()] = Field(
        default_factory=lambda: MappingProxyType({}), description="Further resource attributes."
    )
    agents: Switch = Field(default=True, description="Let the CLI export its own spans into the same traces.")


class HealthSettings(Section):
    """The health checks."""

    interval: SecondsAboveZero = Field(default=15.0, description="Time between two rounds of checks.")
    low_disk: Bytes = Field(
        default=1024 * _MEBIBYTE, description="Free space of the data directory below which the disk check warns."
    )
    certificate_notice: Seconds = Field(
        default=7 * 86400.0, description="The certificate check warns this long before the certificate ends."
    )
    loop_lag: SecondsAboveZero = Field(
        default=1.0, description="The event loop check warns when the loop was late by this much."
    )


class MonitoringSettings(Section):
    """The stack that `pocket-agent monitoring render` writes: where its programs listen, and whom alerts reach."""

    prometheus_port: FixedPort = Field(default=9091, description="Port of Prometheus.")
    alertmanager_port: FixedPort = Field(default=9093, description="Port of Alertmanager.")
    node_port: FixedPort = Field(default=9100, description="Port of the node exporter.")
    blackbox_port: FixedPort = Field(default=9115, description="Port of the blackbox exporter.")
    grafana_port: FixedPort = Field(default=3000, description="Port of Grafana.")
    loki_port: FixedPort = Field(default=3100, description="Port of Loki.")
    tempo_port: FixedPort = Field(default=3200, description="Port of Tempo.")
    otlp_port: FixedPort = Field(default=4318, description="Port of the OpenTelemetry collector, for OTLP over HTTP.")
    scrape_interval: Annotated[float, duration(least=0.1, most=60.0)] = Field(
        default=15.0, description="Time between two scrapes; rules look at 5 minutes, which need a few of them."
    )
    retention: SecondsAboveZero = Field(default=30 * 86400.0, description="How long Prometheus keeps its figures.")
    slack_url_file: OptionalFile = Field(default=None, description="File with the URL of a Slack webhook.")
    slack_channel: Annotated[str, text("a channel such as #alerts", pattern=r"[#@]\S+")] = Field(
        default="#pocket-agent-alerts", description="Slack channel of the alerts."
    )
    pagerduty_key_file: OptionalFile = Field(
        default=None, description="File with the integration key of a PagerDuty service (Events API v2)."
    )
    pagerduty_url: Annotated[str, url()] = Field(
        default="https://events.pagerduty.com/v2/enqueue", description="Address of PagerDuty's Events API."
    )
    email_to: Annotated[str | None, text("a mail address", pattern=r"[^\s@]+@[^\s@]+").optional()] = Field(
        default=None, description="Mail address that alerts go to."
    )
    email_from: Annotated[str, text("a mail address", pattern=r"[^\s@]+@[^\s@]+")] = Field(
        default="pocket-agent@localhost", description="Mail address that alerts come from."
    )
    email_smarthost: Annotated[str, text("HOST:PORT", pattern=r"[^\s:]+:[0-9]{1,5}")] = Field(
        default="localhost:25", description="Mail server."
    )
    email_user: Annotated[str | None, text("a name").optional()] = Field(
        default=None, description="Name to log in to the mail server with."
    )
    email_password_file: OptionalFile = Field(default=None, description="File with the password for it.")
    webhook_url: Annotated[str | None, url().optional()] = Field(
        default=None,
        description="Address that gets every alert as Alertmanager's JSON; it stands in Alertmanager's configuration.",
    )
    webhook_url_file: OptionalFile = Field(
        default=None,
        description="The same for an address that is a secret: a file with it, which Alertmanager (0.26 or newer) "
        "reads itself.",
    )
    watchdog_url: Annotated[str | None, url().optional()] = Field(
        default=None,
        description="Dead man's switch: gets the Watchdog alert every few minutes, and tells you when it stops.",
    )
    watchdog_url_file: OptionalFile = Field(
        default=None, description="The same for an address that is a secret, as of `monitoring.webhook_url_file`."
    )
    ca_file: OptionalFile = Field(
        default=None,
        description="Certificate (PEM) by which the probes trust the server; when not set, the one that it made "
        "itself, or for `server.tls.cert` the authorities of the system.",
    )
    server_name: Annotated[str | None, text("a host name", pattern=r"[A-Za-z0-9][A-Za-z0-9.-]*").optional()] = Field(
        default=None, description="Name that `server.tls.cert` is for; when not set, the address in `server.host`."
    )
    runbook_url: Annotated[str | None, url().optional()] = Field(
        default=None,
        description="Address below which alerts link to their runbooks; when not set, the server's own /docs/runbooks.",
    )


class NotificationSettings(Section):
    """Messages to where people are while nobody looks at a page, by apprise; see notifications.md."""

    urls: Annotated[tuple[str, ...], address_list()] = Field(
        default=(), description="Where messages go. Who knows these addresses can use them.", repr=False
    )
    urls_file: OptionalFile = Field(
        default=None, description="File with more of them, one a line; `#` begins a comment."
    )
    base_url: Annotated[str | None, url().optional()] = Field(
        default=None,
        description="Address of the web client as the reader of a message reaches it; when not set, "
        "`server.public_url`, else the server's own.",
    )
    approval: Switch = Field(default=True, description="Tell of tool requests that wait for an answer.")
    finished: Switch = Field(default=True, description="Tell of executions that succeeded.")
    failed: Switch = Field(default=True, description="Tell of executions that failed or ran into the time limit.")
    when: Annotated[Literal["unwatched", "always"], choice("unwatched", "always")] = Field(
        default="unwatched",
        description="`unwatched`: only while nobody who could answer looks at the project.",
    )
    approval_delay: Seconds = Field(
        default=15.0, description="How long a tool request waits, unwatched, before it is told of."
    )
    finished_after: Seconds = Field(default=60.0, description="Shortest execution whose success is told of.")
    project_pause: Seconds = Field(
        default=60.0,
        description="Shortest time between two messages about a project; what happens meanwhile comes in one.",
    )
    max_per_hour: Annotated[int, number(1, 3600)] = Field(
        default=30, description="Messages within an hour; what happens beyond that comes in one, later."
    )
    content: Switch = Field(
        default=False, description="Send the beginning of prompts and what a tool is to do, too; else only names."
    )


class ObjectiveSettings(Section):
    """The share of good events that is promised over 30 days."""

    availability: Objective = Field(default=0.999, description="Requests without a fault of the server.")
    latency: Objective = Field(default=0.99, description="Requests that are answered within 100 ms.")
    success: Objective = Field(default=0.95, description="Executions that end in success.")


class AlertSettings(Section):
    """When alerts fire. They are rendered into rules for Prometheus; the server itself does not use them."""

    for_scale: Annotated[float, real(0, 100)] = Field(
        default=1.0, description="Factor on how long each condition must hold before its alert fires."
    )
    slow_execution: Annotated[float, duration(least=1.0, most=600.0)] = Field(
        default=120.0, description="SlowExecutions: the slowest 5 % of executions take at least this long."
    )
    error_rate: Annotated[float, real(0, 1_000_000)] = Field(
        default=0.05,
        description="HighErrorRate: more faults of the server a second than this, and a large share of all.",
    )
    error_ratio: Share = Field(
        default=0.05, description="HighErrorRate: the same for each message received; both must hold."
    )
    failed_ratio: Share = Field(default=0.2, description="ExecutionsFailing: share of executions that fail.")
    limit_ratio: Share = Field(
        default=0.9, description="Share of a limit (connections, projects, executions, files, budget) that is too much."
    )
    memory_ratio: Share = Field(default=0.9, description="HighMemoryUsage: the same for memory.")
    disk_free: BytesAboveZero = Field(
        default=1024 * _MEBIBYTE, description="DiskSpaceLow: less space on the disk of the data directory than this."
    )
    certificate: SecondsAboveZero = Field(
        default=14 * 86400.0, description="TLSCertificateExpiring: less time than this until the certificate ends."
    )
    loop_lag: Annotated[float, duration(least=0.001, most=1.0)] = Field(
        default=0.25, description="EventLoopLagHigh: the latest 1 % of what is due runs at least this late."
    )
    restarts: Annotated[int, number(1, 10)] = Field(
        default=3, description="PocketAgentFlapping: outages or restarts within 30 minutes."
    )
    rejected_connections: Count = Field(
        default=20, description="ConnectionsRejected: more refusals within 15 minutes than this; at the limit one does."
    )
    dropped_clients: Count = Field(
        default=5, description="SlowConsumersDropped: more clients dropped within 15 minutes than this."
    )
    objectives: ObjectiveSettings = Field(default_factory=ObjectiveSettings)


class Settings(Section):
    """All settings; the defaults where nothing else is given."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
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
    demo: Switch = Field(
        default=False, description="Run the CLI against the scripted demo model; only on a loopback host."
    )
