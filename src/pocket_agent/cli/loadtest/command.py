"""The flags of `pocket-agent loadtest`. Cheap to import: what it needs is imported when it runs."""
# ruff: noqa: PLC0415 - rich and aiohttp are slow to import, and other commands do without

import os
from pathlib import Path
from typing import Annotated

import typer


def _seconds(flag: str, text: str) -> float:
    from pocket_agent.config.unit import DURATION_EXAMPLES, RefusedError, parse_duration

    try:
        return parse_duration(text)
    except RefusedError as error:
        raise typer.BadParameter(f"{error}; write {DURATION_EXAMPLES}", param_hint=flag) from error


def loadtest_command(
    url: Annotated[str | None, typer.Argument(help="The server, wss://HOST:8443/ws (PA_URL).")] = None,
    connections: Annotated[int, typer.Option(help="How many connections to open and keep open.")] = 10,
    rate: Annotated[float, typer.Option(help="Requests a second, over all connections.")] = 10.0,
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long, e.g. 30s or 5m.")] = "30s",
    ramp: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to reach full load; by default a sixth of all.")
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            help="Weights of list, join, history, execute.",
            show_default="list=5,join=1,history=4, as far as there are projects",
        ),
    ] = None,
    project: Annotated[list[str] | None, typer.Option(help="The id of a project to ask about; all by default.")] = None,
    allow_executions: Annotated[
        bool, typer.Option("--allow-executions", help="Let the mix hold execute, which may cost money.")
    ] = False,
    prompt: Annotated[str, typer.Option(help="What execute sends.")] = "demo:text",
    timeout: Annotated[str, typer.Option(metavar="TIME", help="An answer that takes longer is an error.")] = "10s",
    max_error_ratio: Annotated[float, typer.Option(min=0, max=1, help="Accepted share of errors.")] = 0.01,
    max_p95: Annotated[float | None, typer.Option(min=0, help="Accepted 95th percentile of latency, in ms.")] = None,
    max_p99: Annotated[float | None, typer.Option(min=0, help="Accepted 99th percentile of latency, in ms.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON; - for standard output.")
    ] = None,
    metrics_url: Annotated[
        str | None, typer.Option(help="The server's /metrics; known for the server of this machine.")
    ] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Allow a server on another machine.")] = False,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token (PA_TOKEN).", dir_okay=False)] = None,
    ca: Annotated[Path | None, typer.Option(help="The certificate to trust.", dir_okay=False)] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).", dir_okay=False)] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where the server keeps its data.", file_okay=False)
    ] = None,
) -> None:
    """Put a load on a server, and report how it took it.

    Requests are sent when they are due, whether or not the ones before have been answered, and latency counts
    from then. Exits with 1 when a limit was exceeded, with 2 when the test could not be run.
    """
    from pocket_agent.cli.loadtest.launch import Choices, run_loadtest
    from pocket_agent.config import LoadedSettings, load_settings
    from pocket_agent.errors import PocketAgentError
    from pocket_agent.load.plan import Limits, Plan, parse_mix

    def settings() -> LoadedSettings:
        return load_settings(config=config, environ=os.environ, flags={"data.dir": data_dir})

    seconds = _seconds("--duration", duration)
    try:
        plan = Plan(
            connections=connections,
            rate=rate,
            duration_seconds=seconds,
            ramp_seconds=seconds / 6 if ramp is None else _seconds("--ramp", ramp),
            mix=None if mix is None else parse_mix(mix),
            projects=tuple(project or ()),
            prompt=prompt,
            allow_executions=allow_executions,
            timeout_seconds=_seconds("--timeout", timeout),
            limits=Limits(max_error_ratio, max_p95, max_p99),
        )
        choices = Choices(plan, url, token_file, ca, metrics_url, remote, json_file)
        status = run_loadtest(choices, settings, os.environ)
    except (PocketAgentError, TimeoutError) as error:
        typer.echo(f"pocket-agent: {error}", err=True)
        status = 2
    raise typer.Exit(status)
