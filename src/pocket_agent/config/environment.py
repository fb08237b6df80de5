"""Settings out of environment variables: `PA_SECTION_KEY`, and the names of the existing server."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pocket_agent.config.form import Place, printable
from pocket_agent.config.layer import Given, Layer, Problem, suggest
from pocket_agent.config.leaf import LEAVES

KEYS: Final[Mapping[str, str]] = MappingProxyType({leaf.variable: leaf.key for leaf in LEAVES.values()})
"""The dotted key of each variable that follows the rule."""

LEGACY_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PA_TLS_CERT": "server.tls.cert",
        "PA_TLS_KEY": "server.tls.key",
        "PA_LOG_LEVEL": "logging.level",
        "PA_LOG_FORMAT": "logging.format",
        "PA_MAX_CONNECTIONS": "limits.max_connections",
        "PA_MAX_PROJECTS": "limits.max_projects",
        "PA_MESSAGE_SIZE_LIMIT": "limits.message_size",
        "PA_EXECUTION_TIMEOUT": "timeouts.execution",
        "PA_IDLE_TIMEOUT": "timeouts.idle",
        "PA_PING_INTERVAL": "timeouts.ping_interval",
        "PA_PONG_TIMEOUT": "timeouts.pong_timeout",
    }
)
"""The names of the existing server that do not follow the rule; both spellings work."""

_RESERVED: Final = frozenset({"PA_TOKEN", "PA_URL", "PA_CONFIG"})
_RESERVED_PREFIXES: Final = ("PA_TEST_", "PA_BENCH_")


def read_environment(environ: Mapping[str, str], place: Place) -> Layer:
    """The settings in the environment; variables that are empty count as not set.

    A setting given under both of its names must have the same value in both.
    """
    ruled = _read(environ, KEYS, place)
    legacy = _read(environ, LEGACY_KEYS, place)
    ruled.problems += legacy.problems
    ruled.refused |= legacy.refused
    for key, value in legacy.values.items():
        if key not in ruled.values:
            ruled.values[key] = value
            ruled.sources[key] = legacy.sources[key]
        elif ruled.values[key] != value:
            sources = f"{ruled.sources[key]} and {legacy.sources[key].removeprefix('environment ')}"
            ruled.problems.append(Problem(key, sources, "two names of one setting, with different values"))
            ruled.refused.add(key)
    ruled.problems += _unknown(environ)
    return ruled


def _read(environ: Mapping[str, str], keys: Mapping[str, str], place: Place) -> Layer:
    given = [
        Given(key, environ[variable], f"environment {variable}")
        for variable, key in keys.items()
        if environ.get(variable)
    ]
    return Layer.parse(given, place)


def _unknown(environ: Mapping[str, str]) -> list[Problem]:
    known = [*KEYS, *LEGACY_KEYS]
    return [
        Problem(printable(name), "environment", "unknown setting" + suggest(name, known))
        for name in sorted(environ)
        if name.startswith("PA_")
        and name not in KEYS
        and name not in LEGACY_KEYS
        and name not in _RESERVED
        and not name.startswith(_RESERVED_PREFIXES)
    ]
