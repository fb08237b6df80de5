"""`pocket-agent`: the commands and the flags that they share."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocket_agent import __version__
from pocket_agent.cli.monitoring import monitoring

if TYPE_CHECKING:
    from pocket_agent.settings import LoadedSettings

app = typer.Typer(
    name="pocket-agent",
    help="Run the Claude Code CLI on this machine and drive it from phones, browsers and terminals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
devices = typer.Typer(help="Devices that may connect.", no_args_is_help=True)
app.add_typer(devices, name="devices")
audit = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(audit, name="audit")
storage = typer.Typer(help="The size of the database.", no_args_is_help=True)
app.add_typer(storage, name="storage")
app.add_typer(monitoring, name="monitoring")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.", file_okay=False)]

DeviceName = Annotated[str, typer.Argument(help="Name of the device.")]
ViewOnly = Annotated[bool, typer.Option("--view-only", help="Allow viewing only.")]
Projects = Annotated[
    list[str] | None,
    typer.Option(
        "--project",
        help="Limit it to a project, by name, path or id; repeatable. It may send any prompt there, and allowed "
        "tools run as the server's user.",
    ),
]
Kill = Annotated[bool, typer.Option("--kill", help="Also kill the device's executions.")]
PrintToken = Annotated[bool, typer.Option("--print-token", help="Print only the token, for scripts.")]


@app.command("chat")
def chat_command(
    path: Annotated[str | None, typer.Argument(help="The project's directory, id or name.")] = None,
    url: Annotated[str | None, typer.Option(help="The server, wss://HOST:8443/ws (PA_URL).")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token (PA_TOKEN).", dir_okay=False)] = None,
    ca: Annotated[Path | None, typer.Option(help="The certificate to trust.", dir_okay=False)] = None,
    resume: Annotated[str | None, typer.Option(help="The session to continue.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Send this prompt, print the answer and exit.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --prompt: allow every tool.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --prompt: print the raw frames.")] = False,
    history: Annotated[int, typer.Option(help="Number of entries to show at the start.", min=0, max=1000)] = 20,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Data directory of the server.", file_okay=False)
    ] = None,
) -> None:
    """Talk to an agent from this terminal."""
    from pocket_agent.cli.chat.launch import ChatOptions, run_chat
    from pocket_agent.settings import LoadedSettings, load_settings

    def settings() -> LoadedSettings:
        return load_settings(config=config, environ=os.environ, flags={"data.dir": data_dir})

    options = ChatOptions(path, url, token_file, ca, resume, prompt, yes, as_json, history)
    raise typer.Exit(run_chat(options, settings, os.environ))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pocket-agent {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Commands of Pocket Agent Server."""


@app.command()
def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free port.")] = None,
    data_dir: DataDir = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics.")] = None,
    claude: Annotated[Path | None, typer.Option(help="The Claude Code CLI to run.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    no_tls: Annotated[bool, typer.Option("--no-tls", help="Plain HTTP; only on a loopback host.")] = False,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="No tokens; only on a loopback host.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Use the scripted model instead of an account.")] = False,
) -> None:
    """Run the server until Ctrl-C."""
    from pocket_agent.cli.serve import run

    flags: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "data.dir": data_dir,
        "metrics.port": metrics_port,
        "claude.binary": claude,
        "logging.level": log_level,
        "server.tls.enabled": False if no_tls else None,
        "server.auth": False if no_auth else None,
        "demo": True if demo else None,
    }
    run(lambda: _settings(config, flags))


@app.command("config")
def show_config(
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print the effective settings and their sources."""
    from rich.console import Console

    from pocket_agent.cli.config import print_settings

    print_settings(_settings(config, {"data.dir": data_dir}), as_json=as_json, console=Console())


@app.command()
def schema() -> None:
    """Print the JSON Schema of the protocol."""
    from pocket_agent.cli.schema import print_schema

    print_schema()


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Copy the database to FILE, whether or not the server is running."""
    from pocket_agent.cli.storage import write_backup

    write_backup(_settings(config, {"data.dir": data_dir}), file)


@app.command()
def usage(
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Number of days, today included.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Show usage and cost of the agents by day, project and model."""
    from rich.console import Console

    from pocket_agent.cli.usage import show_usage

    show_usage(_settings(config, {"data.dir": data_dir}), days=days, as_json=as_json, console=Console())


@app.command()
def doctor(
    alerts: Annotated[bool, typer.Option("--alerts", help="Also send a test alert to the receivers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Check the server and its monitoring, and print a fix for each problem."""
    from rich.console import Console

    from pocket_agent.cli.doctor import run_doctor

    run_doctor(
        lambda: _settings(config, {"data.dir": data_dir}),
        os.environ,
        alerts=alerts,
        as_json=as_json,
        console=Console(),
    )


@app.command()
def runbook(
    name: Annotated[str | None, typer.Argument(help="Name of the alert; without it, all are listed.")] = None,
) -> None:
    """Print the runbook of an alert."""
    from rich.console import Console

    from pocket_agent.cli.runbook import show_runbook

    show_runbook(name, Console())


@app.command()
def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each address.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """List the addresses for notifications, and test them."""
    from pocket_agent.cli.notify import show_notifications

    show_notifications(_settings(config, {"data.dir": data_dir}), test=test)


@app.command()
def pair(
    name: Annotated[str | None, typer.Option(help="Name of the device; without it, the device chooses.")] = None,
    view_only: ViewOnly = False,
    project: Projects = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Print a link and a QR code that pair one device, valid for five minutes."""
    from pocket_agent.cli.pair import pair as start

    start(_settings(config, {"data.dir": data_dir}), name=name, view_only=view_only, wanted=project or ())


@devices.command("add")
def add_device(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    view_only: ViewOnly = False,
    project: Projects = None,
    print_token: PrintToken = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Add a device and print its token, which is shown only once."""
    from pocket_agent.cli.device import add

    settings = _settings(config, {"data.dir": data_dir})
    add(settings, name, view_only=view_only, wanted=project or (), bare=print_token)


@devices.command("list")
def list_devices(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """List the devices that may connect, and the open pairing codes."""
    from rich.console import Console

    from pocket_agent.cli.device import show

    show(_settings(config, {"data.dir": data_dir}), as_json=as_json, console=Console())


@devices.command("rename")
def rename_device(
    name: DeviceName,
    new_name: Annotated[str, typer.Argument(help="The new name.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Rename a device."""
    from pocket_agent.cli.device import rename

    rename(_settings(config, {"data.dir": data_dir}), name, new_name)


@devices.command("rotate")
def rotate_device(
    name: DeviceName,
    print_token: PrintToken = False,
    kill: Kill = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Replace a device's token; the old one, its connections, codes and queued prompts end immediately."""
    from pocket_agent.cli.device import rotate

    rotate(_settings(config, {"data.dir": data_dir}), name, bare=print_token, kill=kill)


@devices.command("revoke")
def revoke_device(
    name: DeviceName,
    kill: Kill = False,
    paired: Annotated[bool, typer.Option("--paired", help="Also revoke the devices that it paired.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke a device: its connections, pairing codes and queued prompts end; its executions are listed."""
    from pocket_agent.cli.device import revoke

    revoke(_settings(config, {"data.dir": data_dir}), name, kill=kill, paired=paired)


@devices.command("cancel")
def cancel_code(
    code: Annotated[str, typer.Argument(help="Id of the pairing code, as in `devices list`.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Cancel an unused pairing code."""
    from pocket_agent.cli.device import cancel

    cancel(_settings(config, {"data.dir": data_dir}), code)


@audit.command("verify")
def verify_audit(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Check that the audit log was not changed; exit status 1 if it was."""
    from pocket_agent.cli.audit import check

    check(_settings(config, {"data.dir": data_dir}), as_json=as_json)


@storage.command("show")
def show_storage(config: Config = None, data_dir: DataDir = None) -> None:
    """Print the size of the database and of its unused part; the server may be running."""
    from pocket_agent.cli.storage import show_space

    show_space(_settings(config, {"data.dir": data_dir}))


@storage.command("compact")
def compact_storage(config: Config = None, data_dir: DataDir = None) -> None:
    """Free the space of deleted entries in the database; the server must be stopped."""
    from pocket_agent.cli.storage import compact_database

    compact_database(_settings(config, {"data.dir": data_dir}))


def _settings(config: Path | None, flags: dict[str, object]) -> "LoadedSettings":
    from pocket_agent.settings import load_settings

    return load_settings(config=config, environ=os.environ, flags=flags)


def main() -> None:
    """The entry point: a PocketAgentError becomes one message and exit status 1."""
    from pocket_agent.errors import PocketAgentError

    try:
        app()
    except PocketAgentError as error:
        typer.echo(f"pocket-agent: {error.message}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the output has closed the pipe, such as `head`; this is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
