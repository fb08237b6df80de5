"""`pocket-agent config`: the effective settings and the source of each."""

import json
import re
from collections.abc import Iterator
from typing import Final

from rich.console import Console

from pocket_agent.settings import EffectiveSetting, LoadedSettings, ValueKind, read_word

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")
_UNITS: Final = {ValueKind.DURATION: "seconds", ValueKind.SIZE: "bytes"}


def print_settings(settings: LoadedSettings, *, as_json: bool, console: Console | None = None) -> None:
    """Print every setting with its source; secrets in `claude.environment` are masked.

    The text is YAML that the server would read as a settings file, the sources as comments. The JSON is
    `{"file", "settings": {KEY: {"value", "unit"?, "text", "source"}}}`, with durations in seconds and sizes in bytes.
    """
    text = render_json(settings) if as_json else render_yaml(settings)
    # Not `print`: that would wrap long lines and take brackets for markup.
    (console or Console()).out(text, highlight=False)


def render_json(settings: LoadedSettings) -> str:
    file = None if settings.file is None else str(settings.file)
    entries = {item.setting.key: _entry(item) for item in settings}
    return json.dumps({"file": file, "settings": entries}, indent=2)


def render_yaml(settings: LoadedSettings) -> str:
    rows = list(_rows(settings))
    width = min(max(len(text) for text, source in rows if source), 60)
    file = "none" if settings.file is None else _text(str(settings.file))
    lines = [f"# settings file: {file}"]
    lines += [f"{text:<{width}}  # {source}" if source else text for text, source in rows]
    return "\n".join(lines)


def _rows(settings: LoadedSettings) -> Iterator[tuple[str, str]]:
    """Each line with its source, which is empty for a heading."""
    open_sections: list[str] = []
    for item in settings:
        *sections, name = item.setting.key.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != sections[: depth + 1]:
                yield f"{'  ' * depth}{section}:", ""
        open_sections = sections
        yield f"{'  ' * len(sections)}{name}: {_value(item)}", item.source


def _value(item: EffectiveSetting) -> str:
    return str(item.shown) if item.value is None else _flow(item.shown)


def _flow(value: object) -> str:
    """Plain data as one line of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(_flow(part) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(name)}: {_flow(part)}' for name, part in value.items())}}}"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(text: str) -> str:
    """A text as YAML reads it back: quoted unless it is a plain word."""
    if _PLAIN.fullmatch(text) and read_word(text) == text:
        return text
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    # YAML 1.2, section 5.7: an escape for each character, not JSON's surrogate pairs.
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08X}" for one in escaped) + '"'


def _entry(item: EffectiveSetting) -> dict[str, object]:
    unit = _UNITS.get(item.setting.type.kind)
    number = item.value if unit else item.shown
    value = None if item.value is None else number
    entry: dict[str, object] = {"value": value, "text": _value(item), "source": item.source}
    return entry | ({"unit": unit} if unit else {})
