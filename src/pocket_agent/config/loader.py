"""The effective settings: defaults < YAML file < environment < flags, each value with its source."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pocket_agent.config.conflict import find_conflicts
from pocket_agent.config.directory import (
    SERVICE_DATA_DIR,
    default_data_dir,
    default_file,
    home_dir,
    working_dir,
)
from pocket_agent.config.environment import read_environment
from pocket_agent.config.file import read_file
from pocket_agent.config.form import Place, printable, quote
from pocket_agent.config.layer import Given, Layer, Problem, suggest
from pocket_agent.config.leaf import LEAVES, Leaf
from pocket_agent.config.settings import Settings
from pocket_agent.errors import ConfigurationError

DEFAULT: Final = "default"
MASK: Final = "********"
_MAX_PROBLEMS: Final = 100

_FLAGS: Final = {
    "server.host": "--host",
    "server.port": "--port",
    "server.auth": "--no-auth",
    "server.tls.enabled": "--no-tls",
    "data.dir": "--data-dir",
    "metrics.port": "--metrics-port",
    "claude.binary": "--claude",
    "logging.level": "--log-level",
    "demo": "--demo",
}
_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|HEADER|COOKIE", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True)
class Effective:
    """One setting as it counts.

    Attributes:
        value: as in `Settings`: seconds, bytes, paths.
        shown: plain data for print, with units and without secrets.
        source: `default`, `config.yaml:12`, `environment PA_SERVER_PORT`, `flag --port`.
    """

    leaf: Leaf
    value: object = field(repr=False)
    shown: object
    source: str


@dataclass(frozen=True)
class LoadedSettings:
    """The settings and where each came from; iterates over all of them in order.

    Attributes:
        sources: by dotted key, for every setting.
        file: the settings file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None

    def __iter__(self) -> Iterator[Effective]:
        for key, leaf in LEAVES.items():
            value = leaf.value(self.settings)
            yield Effective(leaf, value, _masked(leaf.show(value), leaf), self.sources[key])


def load_settings(*, config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> LoadedSettings:
    """Read, merge and check every source of settings.

    A value must be acceptable in itself even where a stronger source overrides it. A list or a
    mapping is replaced as a whole.

    Args:
        config: the settings file; None for PA_CONFIG, else `~/.config/pocket-agent/config.yaml`
            if that exists.
        environ: the environment, usually `os.environ`.
        flags: dotted keys to values; None is a flag that was not given.

    Raises:
        ConfigurationError: with every problem of every source, one a line; `details["problems"]`
            has them as `{setting, source, message}`.
    """
    file = _find_file(config, environ)
    layers = _read_layers(file, environ, flags)
    # The directory here only stands in when its layer is refused, so that the rest can be checked.
    values: dict[str, object] = {"data.dir": SERVICE_DATA_DIR}
    sources = dict.fromkeys(LEAVES, DEFAULT)
    problems: list[Problem] = []
    refused: set[str] = set()
    for layer in layers:
        values |= layer.values
        sources |= layer.sources
        problems += layer.problems
        refused |= layer.refused
    settings = Settings.model_validate(nested(values))
    problems += _conflict_problems(settings, sources, refused)
    if problems:
        raise _error(problems)
    return LoadedSettings(settings, MappingProxyType(sources), file)


def _find_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    named = environ.get("PA_CONFIG")
    return Path(named) if named else default_file(environ)


def _read_layers(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> list[Layer]:
    """Every source, the weakest first."""
    home, base = home_dir(environ), working_dir()
    here = Place(home=home, base=base)
    layers: list[Layer] = []
    if file is not None:
        given, problems = read_file(file)
        beside = file.parent if file.is_absolute() or base is None else base / file.parent
        layers.append(Layer.parse(given, Place(home=home, base=beside), problems))
    layers += [read_environment(environ, here), _read_flags(flags, here)]
    if not any("data.dir" in layer.values or "data.dir" in layer.refused for layer in layers):
        layers.insert(0, _computed_defaults(environ, here))
    return layers


def _computed_defaults(environ: Mapping[str, str], place: Place) -> Layer:
    try:
        directory = default_data_dir(environ, os.getuid())
    except ConfigurationError as error:
        return Layer(problems=[Problem("data.dir", DEFAULT, error.message)], refused={"data.dir"})
    return Layer.parse([Given("data.dir", directory, DEFAULT)], place)


def _read_flags(flags: Mapping[str, object], place: Place) -> Layer:
    given = [(key, value) for key, value in flags.items() if value is not None]
    unknown = [
        Problem(printable(key), "flag", "unknown setting" + suggest(key, LEAVES))
        for key, _ in given
        if key not in LEAVES
    ]
    known = [Given(key, value, f"flag {_flag(key)}") for key, value in given if key in LEAVES]
    return Layer.parse(known, place, unknown)


def _flag(key: str) -> str:
    return _FLAGS.get(key) or "--" + re.sub(r"[._]", "-", key)


def _conflict_problems(settings: Settings, sources: Mapping[str, str], refused: set[str]) -> Iterator[Problem]:
    for conflict in find_conflicts(settings):
        if refused.isdisjoint(conflict.keys):
            leaves = [LEAVES[key] for key in conflict.keys]
            values = ", ".join(f"{leaf.key} is {_word(leaf.show(leaf.value(settings)))}" for leaf in leaves)
            places = dict.fromkeys(sources[key] for key in conflict.keys)
            yield Problem(" and ".join(conflict.keys), ", ".join(places), f"{conflict.reason} ({values})")


def _word(shown: object) -> str:
    return shown if isinstance(shown, str) else quote(shown)


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """Values by their dotted keys as the tree that `Settings` are made of."""
    tree: dict[str, object] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)
            place = inner
        place[name] = value
    return tree


def _error(problems: list[Problem]) -> ConfigurationError:
    listed = [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        listed.append(f"  and {len(problems) - _MAX_PROBLEMS} more")
    return ConfigurationError(
        "\n".join(["The settings cannot be used:", *listed]),
        details={
            "problems": [
                {"setting": problem.subject, "source": problem.source, "message": problem.message}
                for problem in problems[:_MAX_PROBLEMS]
            ]
        },
    )


def _masked(shown: object, leaf: Leaf) -> object:
    if isinstance(shown, list) and leaf.form.secret:
        return [MASK] * len(shown)
    if not isinstance(shown, dict) or not (leaf.form.secret or leaf.key == "claude.environment"):
        return shown
    return {
        name: MASK if leaf.form.secret or _SECRET_NAME.search(name) or _SECRET_VALUE.search(value) else value
        for name, value in shown.items()
    }
