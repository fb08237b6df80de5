"""The effective settings: defaults < YAML file < environment < flags, each value with its source.

pydantic parses each value of each source once; the parsed values are then merged.
"""

import difflib
import errno
import os
import re
import select
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings.combinations import find_conflicts
from pocket_agent.settings.sections import (
    SECTION_KEYS,
    SERVICE_DATA_DIR,
    SETTINGS,
    Setting,
    Settings,
    SettingsSection,
    default_data_dir,
    home_dir,
)
from pocket_agent.settings.types import PathContext, RefusedError, ValueKind, ValueType, printable, quote

DEFAULT: Final = "default"
"""The source of a setting that no source gives."""
MASK: Final = "********"
MAX_FILE_SIZE: Final = 256 * 1024
"""Bytes; a file that sets everything has about 4 KiB."""
_MAX_DEPTH: Final = 16
_MAX_PROBLEMS: Final = 100

LEGACY_VARIABLES: Final = {setting.legacy: key for key, setting in SETTINGS.items() if setting.legacy}
_FOREIGN_VARIABLE: Final = re.compile(r"PA_(?:TOKEN|URL|CONFIG|TEST_.*|BENCH_.*)", re.DOTALL)
"""Variables of the clients, of this loader and of tests, which are not settings."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,29})")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,40}|(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|HEADER|COOKIE", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True)
class EffectiveSetting:
    """The effective value of one setting.

    Attributes:
        value: as in `Settings`: seconds, bytes, paths.
        shown: plain data for print, with units and without secrets.
        source: `default`, `config.yaml:12`, `environment PA_SERVER_PORT`, `flag --port`.
    """

    setting: Setting
    value: object = field(repr=False)
    shown: object
    source: str


@dataclass(frozen=True)
class LoadedSettings:
    """The settings with their sources; iterates over all of them in order.

    Attributes:
        sources: by dotted key, for every setting.
        file: the settings file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None

    def __iter__(self) -> Iterator[EffectiveSetting]:
        for key, setting in SETTINGS.items():
            value = setting.value(self.settings)
            yield EffectiveSetting(setting, value, _masked(setting.show(value), setting), self.sources[key])


@dataclass(frozen=True)
class SettingsProblem:
    """An error in a source of settings.

    Attributes:
        setting: its dotted key, or the file as a whole.
        source: where it was given: `config.yaml:12`, `environment PA_DEMO`, `flag --port`.
        message: the rule that is broken, with the value unless it is secret.
    """

    setting: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.setting} ({self.source}): {self.message}"


@dataclass(frozen=True)
class RawValue:
    """A value as its source gives it, not parsed yet."""

    key: str
    value: object
    source: str


SourceItem = RawValue | SettingsProblem
"""What reading a source gives."""


@dataclass
class SettingsLayer:
    """One source, parsed.

    Attributes:
        values: parsed values by dotted key.
        sources: where each of them was given.
        refused: the keys whose values are among the `problems`.
    """

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[SettingsProblem] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def refuse(self, problem: SettingsProblem) -> None:
        self.problems.append(problem)
        self.refused.add(problem.setting)


def load_settings(*, config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> LoadedSettings:
    """Read, merge and check every source of settings.

    A value must be valid even where a source of higher precedence overrides it. A list or a mapping replaces that of
    a lower one as a whole.

    Args:
        config: the settings file; None for PA_CONFIG, else `~/.config/pocket-agent/config.yaml` if that exists.
        environ: the environment, usually `os.environ`.
        flags: dotted keys to values; None is a flag that was not given.

    Raises:
        ConfigurationError: with every problem of every source, one a line; `details["problems"]` has them as
            `{setting, source, message}`.
    """
    named = environ.get("PA_CONFIG")
    file = config or (Path(named) if named else default_file(environ))
    # The placeholder is used only when the default data directory is refused, so that the rest can be checked.
    values = {key: SERVICE_DATA_DIR if key == "data.dir" else setting.default for key, setting in SETTINGS.items()}
    sources = dict.fromkeys(SETTINGS, DEFAULT)
    problems: list[SettingsProblem] = []
    refused: set[str] = set()
    for layer in _read_layers(file, environ, flags):
        values |= layer.values
        sources |= layer.sources
        problems += layer.problems
        refused |= layer.refused
    settings = build_settings(values)
    problems += _conflict_problems(settings, sources, refused)
    if problems:
        raise _error(problems)
    return LoadedSettings(settings, MappingProxyType(sources), file)


def build_settings(values: Mapping[str, object]) -> Settings:
    """`Settings` with the given parsed values, one for every dotted key."""

    def build(section: type[SettingsSection], prefix: str) -> SettingsSection:
        built: dict[str, Any] = {}
        for name, described in section.model_fields.items():
            key, kind = prefix + name, described.annotation
            if isinstance(kind, type) and issubclass(kind, SettingsSection):
                built[name] = build(kind, f"{key}.")
            else:
                built[name] = values[key]
        return section.model_construct(**built)  # the values are parsed already

    settings = build(Settings, "")
    assert isinstance(settings, Settings)
    return settings


def parse_layer(given: Iterable[SourceItem], context: PathContext) -> SettingsLayer:
    """Parse the values of one source, whose paths start at `context`; a refused value becomes a problem."""
    layer = SettingsLayer()
    for item in given:
        if isinstance(item, SettingsProblem):
            layer.refuse(item)
            continue
        kind = SETTINGS[item.key].type
        try:
            layer.values[item.key] = kind.validator.validate_python(item.value, context=context)
            layer.sources[item.key] = item.source
        except ValidationError as error:
            message = _refusal(kind, item.value, error.errors(include_url=False)[0])
            layer.refuse(SettingsProblem(item.key, item.source, message))
    return layer


def _refusal(kind: ValueType, value: object, error: ErrorDetails) -> str:
    """What is wrong with a value: "VALUE is not ACCEPTED: REASON"."""
    context = error.get("ctx", {})
    reason = str(context["error"]) if isinstance(context.get("error"), RefusedError) else ""
    if error["type"] == "string_pattern_mismatch":
        reason = f"does not match {context['pattern'].removeprefix('^(?:').removesuffix(')$')}"
    hidden = kind.secret or kind.kind is ValueKind.MAPPING
    position = error["loc"][-1] if error["loc"] else None
    if isinstance(position, int):
        item = f"item {position + 1}" + ("" if hidden else f", {quote(error['input'])}")
        reason = f"{item}: {reason}" if reason else item
    shown = f"not {kind.accepts}" if hidden else f"{quote(value)} is not {kind.accepts}"
    repeated = kind.accepts.startswith(reason.removeprefix("not "))
    return shown if repeated else f"{shown}: {reason}"


# --- sources


def _read_layers(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> list[SettingsLayer]:
    """Every source, that of lowest precedence first."""
    home, base = home_dir(environ), working_dir()
    context = PathContext(home=home, base=base)
    layers: list[SettingsLayer] = []
    if file is not None:
        folder = file.parent if file.is_absolute() or base is None else base / file.parent
        layers.append(parse_layer(read_file(file), PathContext(home=home, base=folder)))
    layers += [read_environment(environ, context), _read_flags(flags, context)]
    if not any("data.dir" in layer.values or "data.dir" in layer.refused for layer in layers):
        layers.insert(0, _computed_defaults(environ, context))
    return layers


def default_file(environ: Mapping[str, str]) -> Path | None:
    """`~/.config/pocket-agent/config.yaml` if it exists, or if a lookup fails; None without HOME."""
    if not environ.get("HOME"):
        return None
    usual = Path(environ["HOME"]) / ".config" / "pocket-agent" / "config.yaml"
    try:
        usual.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        pass  # `read_file` reports it
    return usual


def working_dir() -> Path | None:
    """The current directory; None when it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _computed_defaults(environ: Mapping[str, str], context: PathContext) -> SettingsLayer:
    item: SourceItem
    try:
        item = RawValue("data.dir", default_data_dir(environ, os.getuid()), DEFAULT)
    except ConfigurationError as error:
        item = SettingsProblem("data.dir", DEFAULT, error.message)
    return parse_layer([item], context)


def read_environment(environ: Mapping[str, str], context: PathContext) -> SettingsLayer:
    """The settings in the environment; empty variables count as not set.

    A setting given under both of its names must have the same value in both.
    """
    names = {setting.variable: key for key, setting in SETTINGS.items()}
    layer, legacy = (
        parse_layer(
            [RawValue(key, environ[name], f"environment {name}") for name, key in keys.items() if environ.get(name)],
            context,
        )
        for keys in (names, LEGACY_VARIABLES)
    )
    layer.problems += legacy.problems
    layer.refused |= legacy.refused
    for key, value in legacy.values.items():
        if key not in layer.values:
            layer.values[key] = value
            layer.sources[key] = legacy.sources[key]
        elif layer.values[key] != value:
            both = f"{layer.sources[key]} and {legacy.sources[key].removeprefix('environment ')}"
            layer.refuse(SettingsProblem(key, both, "two names of one setting have different values"))
    known = {**names, **LEGACY_VARIABLES}
    layer.problems += [
        SettingsProblem(printable(name), "environment", "unknown setting" + _suggest(name, known))
        for name in sorted(environ)
        if name.startswith("PA_") and name not in known and not _FOREIGN_VARIABLE.fullmatch(name)
    ]
    return layer


def _read_flags(flags: Mapping[str, object], context: PathContext) -> SettingsLayer:
    given: list[SourceItem] = [
        RawValue(key, value, f"flag {SETTINGS[key].flag}")
        if key in SETTINGS
        else SettingsProblem(printable(key), "flag", "unknown setting" + _suggest(key, SETTINGS))
        for key, value in flags.items()
        if value is not None
    ]
    return parse_layer(given, context)


def _suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known name, if any is close."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


# --- the settings file: YAML nodes, whose lines are the sources


def _compose(document: str) -> Node | None:
    """The nodes of one document, without aliases, tags and deep nesting.

    No object is constructed, so a tag cannot run code and an alias cannot multiply.

    Raises:
        YAMLError: with the line, except for some characters that PyYAML lets out as ValueError or OverflowError.
    """
    depth, problem = 0, ""
    event: yaml.Event
    for event in yaml.parse(document, yaml.BaseLoader):
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not accepted"
        elif getattr(event, "tag", None) is not None:
            problem = "tags are not accepted"
        elif depth > _MAX_DEPTH:
            problem = "nested too deeply"
        if problem:
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]  # C marks
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
    node: Node | None = yaml.compose(document, yaml.BaseLoader)  # no resolvers: `read_word` reads plain scalars
    return node


_PIPE_MILLISECONDS: Final = 5000
"""How long the program at the other end of a pipe may take to write."""


def _open_at_once(name: str, flags: int) -> int:
    """Open a file without waiting for a writer of a FIFO."""
    return os.open(name, flags | os.O_NONBLOCK)


def read_source(path: Path, max_bytes: int) -> bytes:
    """At most `max_bytes` of a file, or of a pipe that is written to now.

    A reload reads the files again: a pipe of the start (`--config <(...)`) has nothing more then, and a FIFO without
    a writer would block the thread that reads it for ever.

    Raises:
        OSError: it cannot be read, or is an empty pipe.
    """
    content = b""
    with open(path, "rb", 0, opener=_open_at_once) as file:
        ready = select.poll()
        ready.register(file, select.POLLIN)
        while len(content) < max_bytes:
            piece = file.read(max_bytes - len(content)) if ready.poll(_PIPE_MILLISECONDS) else None
            if not piece:
                if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode) and (piece is None or not content):
                    raise OSError(errno.ENODATA, "it is a pipe to which no program writes (any more)")
                break
            content += piece
    return content


def read_file(path: Path) -> list[SourceItem]:
    """The settings in a YAML file, and its problems; an unreadable file is a problem too."""
    name = printable(str(path))
    try:
        content = read_source(path, MAX_FILE_SIZE + 1)
        if len(content) > MAX_FILE_SIZE:
            return [SettingsProblem("the file", name, f"larger than {MAX_FILE_SIZE // 1024} KiB")]
        return parse_yaml(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return [SettingsProblem("the file", f"{name}:{line}", "not UTF-8")]
    except OSError as error:
        return [SettingsProblem("the file", name, f"cannot be read: {error.strerror or error}")]
    except ValueError:
        return [SettingsProblem("the file", name, "not a path")]


def parse_yaml(document: str, name: str) -> list[SourceItem]:
    """As `read_file`, for a document in memory; `name` appears in the sources."""
    place = name
    try:
        root = _compose(document)
    except MarkedYAMLError as error:
        if (mark := error.problem_mark or error.context_mark) is not None:
            place = f"{name}:{mark.line + 1}"
        reason = f"invalid YAML: {error.problem or error.context}"
    except yaml.reader.ReaderError as error:
        place = f"{name}:{document.count(chr(10), 0, error.position) + 1}"
        reason = "has a character that YAML does not allow"
    except (ValueError, OverflowError) as error:
        # PyYAML lets these out for escapes beyond Unicode ("\UFFFFFFFF") and endless version numbers.
        reason = f"invalid YAML: {quote(str(error))}"
    else:
        walker = _NodeWalker(name)
        if root is not None:
            walker.walk(root)
        return walker.found
    return [SettingsProblem("the file", place, reason)]


class _NodeWalker:
    """Collects the settings and the problems in the nodes of one file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.found: list[SourceItem] = []

    def walk(self, node: Node, section: str = "") -> None:
        """Collect the settings of a section, or of the whole file; an empty one has none."""
        if isinstance(node, ScalarNode) and node.style is None and node.value in _NULLS:
            return
        if not isinstance(node, MappingNode):
            kind = "a mapping of settings" if section else "a mapping of sections"
            self._refuse(section or "the file", node.start_mark.line + 1, f"not {kind}")
            return
        prefix = f"{section}." if section else ""
        for name, child, line in self._items(node, section):
            key = prefix + name
            if "." in name and key in SETTINGS:
                self._refuse(key, line, "sections are written as nested mappings, not with dots")
            elif key in SECTION_KEYS:
                self.walk(child, key)
            elif key in SETTINGS:
                value = self._value(child, key, raw=SETTINGS[key].type.raw)
                self.found.append(RawValue(key, value, f"{self._name}:{line}"))
            else:
                self._refuse(printable(key), line, "unknown setting" + _hint(name, prefix))

    def _items(self, node: MappingNode, section: str) -> Iterator[tuple[str, Node, int]]:
        """The pairs of a mapping with their lines; invalid and repeated keys become problems."""
        seen: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self._refuse(section or "the file", line, "a key that is not a word")
            elif key.value in seen:
                where = f"{section}.{key.value}" if section else key.value
                self._refuse(printable(where), line, f"given twice; first on line {seen[key.value]}")
            else:
                seen[key.value] = line
                yield key.value, child, line

    def _value(self, node: Node, key: str, *, raw: bool) -> object:
        """The plain data of a node; with `raw`, a plain word stays text."""
        if isinstance(node, SequenceNode):
            return [self._value(item, key, raw=raw) for item in node.value]
        if isinstance(node, MappingNode):
            return {name: self._value(child, key, raw=raw) for name, child, _ in self._items(node, key)}
        assert isinstance(node, ScalarNode)  # YAML has no other node
        word: str = node.value
        return word if node.style is not None or (raw and word not in _NULLS) else read_word(word)

    def _refuse(self, setting: str, line: int, message: str) -> None:
        self.found.append(SettingsProblem(setting, f"{self._name}:{line}", message))


def read_word(word: str) -> object:
    """The value of an unquoted YAML word, by the core schema of YAML 1.2 (section 10.3.2) without hex and octal.

    So `5:30` and `0123` are text, and so are `off` and `yes`, which boolean settings accept as text.
    """
    if word in _NULLS:
        return None
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word) or _NOT_FINITE.fullmatch(word):
        return float(re.sub(r"\.(?=[iInN])", "", word))
    return word


def _hint(name: str, prefix: str) -> str:
    """Where an unknown name may belong: the same name in another section, else the closest one."""
    same = [key for key in (*SETTINGS, *sorted(SECTION_KEYS)) if key.rsplit(".", 1)[-1] == name]
    if same:
        return f"; did you mean {' or '.join(same[:3])}?"
    siblings = {key.removeprefix(prefix).split(".")[0] for key in SETTINGS if key.startswith(prefix)}
    return _suggest(name, sorted(siblings)) or f"; known here: {', '.join(sorted(siblings))}"


# --- errors and print


def _conflict_problems(settings: Settings, sources: Mapping[str, str], refused: set[str]) -> Iterator[SettingsProblem]:
    for conflict in find_conflicts(settings):
        if refused.isdisjoint(conflict.keys):
            shown = {key: SETTINGS[key].show(SETTINGS[key].value(settings)) for key in conflict.keys}
            values = ", ".join(
                f"{key} is {text if isinstance(text, str) else quote(text)}" for key, text in shown.items()
            )
            places = dict.fromkeys(sources[key] for key in conflict.keys)
            yield SettingsProblem(" and ".join(conflict.keys), ", ".join(places), f"{conflict.reason} ({values})")


def _error(problems: list[SettingsProblem]) -> ConfigurationError:
    listed = [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        listed.append(f"  and {len(problems) - _MAX_PROBLEMS} more")
    return ConfigurationError(
        "\n".join(["The settings cannot be used:", *listed]),
        details={"problems": [asdict(problem) for problem in problems[:_MAX_PROBLEMS]]},
    )


def _masked(shown: object, setting: Setting) -> object:
    secret = setting.type.secret
    if isinstance(shown, list) and secret:
        return [MASK] * len(shown)
    if not isinstance(shown, dict) or not (secret or setting.key == "claude.environment"):
        return shown
    return {
        name: MASK if secret or _SECRET_NAME.search(name) or _SECRET_VALUE.search(value) else value
        for name, value in shown.items()
    }
