"""`pocket-agent`: the commands with their options; each imports what it needs when it runs."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pocket_agent import __version__
from pocket_agent.cli.common import AsJson, ReadSettings, settings_command
from pocket_agent.cli.monitoring import monitoring

app = typer.Typer(
    name="pocket-agent",
    help="Run the Claude Code CLI on this machine and use it from phones, browsers and terminals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
devices = typer.Typer(help="Manage the devices that may connect.", no_args_is_help=True)
app.add_typer(devices, name="devices")
audit = typer.Typer(help="Verify the audit log.", no_args_is_help=True)
app.add_typer(audit, name="audit")
storage = typer.Typer(help="Show and reduce the size of the database.", no_args_is_help=True)
app.add_typer(storage, name="storage")
hook = typer.Typer(help="Let Claude Code in a terminal ask the server's clients for approvals.", no_args_is_help=True)
app.add_typer(hook, name="hook")
app.add_typer(monitoring, name="monitoring")

DeviceName = Annotated[str, typer.Argument(help="Name of the device.")]
ViewOnly = Annotated[bool, typer.Option("--view-only", help="Allow watching only.")]
Projects = Annotated[
    list[str] | None,
    typer.Option(
        "--project",
        help="Limit the device to a project, by name, path or id; repeatable. It may ask the agent for anything there, "
        "and what is allowed runs as the server's user.",
    ),
]
Kill = Annotated[bool, typer.Option("--kill", help="Also kill the executions that the device started.")]
PrintToken = Annotated[bool, typer.Option("--print-token", help="Print the token alone, for scripts.")]


@settings_command(app, "chat")
def chat_command(
    read: ReadSettings,
    path: Annotated[str | None, typer.Argument(help="The project's directory, id or name.")] = None,
    url: Annotated[str | None, typer.Option(help="The server, wss://HOST:8443/ws (PA_URL).")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token (PA_TOKEN).", dir_okay=False)] = None,
    ca: Annotated[Path | None, typer.Option(help="The certificate to trust.", dir_okay=False)] = None,
    conversation: Annotated[str | None, typer.Option(help="A conversation of the project: its title or id.")] = None,
    resume: Annotated[str | None, typer.Option(help="The session to continue.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Send this prompt, print the answer and exit.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --prompt: allow every tool.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --prompt: print the raw frames.")] = False,
    history: Annotated[int, typer.Option(help="Number of entries to show first.", min=0, max=1000)] = 20,
) -> None:
    """Talk to an agent in this terminal."""
    from pocket_agent.cli.chat.launch import ChatOptions, run_chat

    options = ChatOptions(path, url, token_file, ca, conversation, resume, prompt, yes, as_json, history)
    raise typer.Exit(run_chat(options, read, os.environ))


@settings_command(app, "resume")
def resume_command(
    read: ReadSettings,
    target: Annotated[
        str | None,
        typer.Argument(metavar="[PATH|CONVERSATION]", help="A directory in a project, or the id of a conversation."),
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session to continue, by its id.")] = None,
    shows: Annotated[bool, typer.Option("--print", help="Print the command instead of running it.")] = False,
) -> None:
    """Continue a conversation in this terminal, with Claude Code itself."""
    from pocket_agent.cli.resume import ResumeOptions, run_resume

    run_resume(ResumeOptions(target, session, shows), read, os.environ)


@settings_command(hook, "install")
def hook_install(read: ReadSettings) -> None:
    """Put the hooks into your settings of Claude Code; everything else in them stays as it is."""
    from pocket_agent.cli.hook import install_hook

    install_hook(read(), os.environ)


@settings_command(hook, "status")
def hook_status(read: ReadSettings) -> None:
    """Show whether the hooks are installed; exit status 1 if not."""
    from pocket_agent.cli.hook import show_hook

    show_hook(read(), os.environ)


@settings_command(hook, "remove")
def hook_remove(read: ReadSettings) -> None:
    """Take the hooks out of your settings of Claude Code again."""
    from pocket_agent.cli.hook import remove_hook

    remove_hook(os.environ)


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


@contextlib.contextmanager
def _without_authorities() -> Iterator[None]:
    """Let aiohttp be imported without the certificate authorities of the system.

    It reads them into a context for HTTPS requests, which takes 2 MB and 40 ms. The server sends none through aiohttp.
    """
    name = "SSL_CERT_FILE"  # SSL_CTX_set_default_verify_paths(3)
    before = os.environ.get(name)
    os.environ[name] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@settings_command(app, "serve")
def serve(
    read: ReadSettings,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free port.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics.")] = None,
    claude: Annotated[Path | None, typer.Option(help="The Claude Code CLI to run.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    no_tls: Annotated[bool, typer.Option("--no-tls", help="Plain HTTP; only on a loopback host.")] = False,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="No tokens; only on a loopback host.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Use the scripted model instead of an account.")] = False,
) -> None:
    """Run the server until Ctrl-C."""
    with _without_authorities():
        from pocket_agent.cli.serve import run

    flags: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "metrics.port": metrics_port,
        "claude.binary": claude,
        "logging.level": log_level,
        "server.tls.enabled": False if no_tls else None,
        "server.auth": False if no_auth else None,
        "demo": True if demo else None,
    }
    run(lambda: read(flags))


@settings_command(app, "config")
def show_config(read: ReadSettings, as_json: AsJson = False) -> None:
    """Print the effective settings and the source of each."""
    from pocket_agent.cli.config import print_settings

    print_settings(read(), as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the protocol (draft 2020-12)."""
    from pocket_agent.cli.common import print_json
    from pocket_agent.protocol.json_schema import protocol_schema

    print_json(protocol_schema())


@settings_command(app, "backup")
def backup(
    read: ReadSettings, file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")]
) -> None:
    """Copy the database to FILE, whether or not the server is running."""
    from pocket_agent.cli.storage import write_backup

    write_backup(read(), file)


@settings_command(app, "usage")
def usage(
    read: ReadSettings,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Number of days, today included.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show tokens and cost by day, project and model."""
    from pocket_agent.cli.usage import show_usage

    show_usage(read(), days=days, as_json=as_json)


@settings_command(app, "doctor")
def doctor(
    read: ReadSettings,
    alerts: Annotated[bool, typer.Option("--alerts", help="Also send a test alert to the receivers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the server and its monitoring, and print how to fix what is wrong."""
    from pocket_agent.cli.doctor import run_doctor

    run_doctor(read, os.environ, alerts=alerts, as_json=as_json)


@app.command()
def runbook(
    name: Annotated[str | None, typer.Argument(help="The alert; without it, all are listed.")] = None,
) -> None:
    """Show what to do when an alert fires."""
    from pocket_agent.cli.runbook import show_runbook

    show_runbook(name)


@settings_command(app, "notify")
def notify(
    read: ReadSettings,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each address.")] = False,
) -> None:
    """Show the addresses that notifications are sent to, and test them."""
    from pocket_agent.cli.notify import show_notifications

    show_notifications(read(), test=test)


@settings_command(app, "pair")
def pair(
    read: ReadSettings,
    name: Annotated[str | None, typer.Option(help="Name of the device; by default the device chooses it.")] = None,
    view_only: ViewOnly = False,
    project: Projects = None,
) -> None:
    """Print a link and a QR code that pair one device, within five minutes."""
    from pocket_agent.cli.pair import pair as start

    start(read(), name=name, view_only=view_only, wanted=project or ())


@settings_command(devices, "add")
def add_device(
    read: ReadSettings,
    name: DeviceName,
    view_only: ViewOnly = False,
    project: Projects = None,
    print_token: PrintToken = False,
) -> None:
    """Add a device; its token is shown once."""
    from pocket_agent.cli.device import add

    add(read(), name, view_only=view_only, wanted=project or (), bare=print_token)


@settings_command(devices, "list")
def list_devices(read: ReadSettings, as_json: AsJson = False) -> None:
    """List the devices that may connect, and the open pairing codes."""
    from pocket_agent.cli.device import show

    show(read(), as_json=as_json)


@settings_command(devices, "rename")
def rename_device(
    read: ReadSettings, name: DeviceName, new_name: Annotated[str, typer.Argument(help="The new name.")]
) -> None:
    """Rename a device."""
    from pocket_agent.cli.device import rename

    rename(read(), name, new_name)


@settings_command(devices, "rotate")
def rotate_device(read: ReadSettings, name: DeviceName, print_token: PrintToken = False, kill: Kill = False) -> None:
    """Replace a device's token; the old token, its connections, pairing codes and queued prompts end at once."""
    from pocket_agent.cli.device import rotate

    rotate(read(), name, bare=print_token, kill=kill)


@settings_command(devices, "revoke")
def revoke_device(
    read: ReadSettings,
    name: DeviceName,
    kill: Kill = False,
    paired: Annotated[bool, typer.Option("--paired", help="Also revoke the devices that it paired.")] = False,
) -> None:
    """End a device's access, its connections, pairing codes and queued prompts; list what it still runs."""
    from pocket_agent.cli.device import revoke

    revoke(read(), name, kill=kill, paired=paired)


@settings_command(devices, "cancel")
def cancel_code(
    read: ReadSettings, code: Annotated[str, typer.Argument(help="Id of the pairing code, from `devices list`.")]
) -> None:
    """Cancel a pairing code that was not used yet."""
    from pocket_agent.cli.device import cancel

    cancel(read(), code)


@settings_command(audit, "verify")
def verify_audit(read: ReadSettings, as_json: AsJson = False) -> None:
    """Verify that no record of the audit log was changed, removed or inserted; exit status 1 if one was."""
    from pocket_agent.cli.audit import check

    check(read(), as_json=as_json)


@settings_command(storage, "show")
def show_storage(read: ReadSettings) -> None:
    """Print the size of the database and its unused part; the server may be running."""
    from pocket_agent.cli.storage import show_space

    show_space(read())


@settings_command(storage, "compact")
def compact_storage(read: ReadSettings) -> None:
    """Return the unused part of the database to the disk; the server must be stopped."""
    from pocket_agent.cli.storage import compact_database

    compact_database(read())


def main() -> None:
    """The entry point: an error of the project becomes one message and exit status 1."""
    from pocket_agent.errors import PocketAgentError

    try:
        app()
    except PocketAgentError as error:
        typer.echo(f"pocket-agent: {error.message}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed the pipe: not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
