"""The settings as a flat list: one leaf per dotted key, read off the section models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic.fields import FieldInfo

from pocket_agent.config.form import Form, Kind
from pocket_agent.config.settings import Section, Settings
from pocket_agent.config.unit import format_duration, format_size


@dataclass(frozen=True)
class Leaf:
    """One setting.

    Attributes:
        key: its dotted path, such as `server.tls.cert`.
        form: what it accepts.
        help: what it is for.
    """

    key: str
    form: Form
    help: str
    _field: FieldInfo

    @property
    def variable(self) -> str:
        """The environment variable that sets it, by the rule."""
        return "PA_" + self.key.upper().replace(".", "_")

    @property
    def default(self) -> object:
        """The default; that of `data.dir` depends on the user."""
        return self._field.get_default(call_default_factory=True)

    def value(self, settings: Settings) -> object:
        """Its value in the given settings."""
        place: object = settings
        for name in self.key.split("."):
            place = getattr(place, name)
        return place

    def show(self, value: object) -> object:
        """A value as plain data for print: with its unit, paths as texts, lists as lists."""
        if value is None:
            return self.form.null
        if self.form.kind is Kind.DURATION and isinstance(value, float):
            return format_duration(value)
        if self.form.kind is Kind.SIZE and isinstance(value, int):
            return format_size(value)
        if isinstance(value, tuple):
            return [str(item) for item in value]
        if isinstance(value, Mapping):
            return dict(value)
        return value if isinstance(value, bool | int) else str(value)


def _walk(section: type[Section], prefix: str) -> Iterator[Leaf]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            form = next(item for item in field.metadata if isinstance(item, Form))
            yield Leaf(prefix + name, form, field.description or "", field)


LEAVES: Final[Mapping[str, Leaf]] = MappingProxyType({leaf.key: leaf for leaf in _walk(Settings, "")})
"""Every setting by its dotted key, in the order of print."""

SECTIONS: Final = frozenset(key.rsplit(".", depth)[0] for key in LEAVES for depth in range(1, key.count(".") + 1))
"""The dotted keys of the sections: `server`, `server.tls`, ..."""
