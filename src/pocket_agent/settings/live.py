"""The settings of a running server, and what a reload changes."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings.combinations import find_conflicts
from pocket_agent.settings.load import LoadedSettings, build_settings
from pocket_agent.settings.sections import RELOAD, RESTART, SETTINGS, Settings


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A changed setting; the values are for print, without secrets."""

    key: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload changes.

    Attributes:
        applied: changes that take effect at once.
        deferred: changes that take effect at the next start.
    """

    applied: tuple[SettingChange, ...]
    deferred: tuple[SettingChange, ...]


class CurrentSettings(Protocol):
    """The settings in effect: `LiveSettings` in a server, or fixed `Settings`.

    A part of the server keeps this and reads `current` each time it needs a setting, so that a reload reaches it.
    """

    @property
    def current(self) -> Settings:
        """One immutable snapshot."""


class LiveSettings:
    """The settings of a running server; a reload replaces `loaded`, the snapshot with its sources, as a whole."""

    def __init__(self, loaded: LoadedSettings) -> None:
        self.loaded = loaded

    @property
    def current(self) -> Settings:
        return self.loaded.settings


def merge_reload(running: LoadedSettings, read: LoadedSettings) -> tuple[LoadedSettings, ReloadResult]:
    """The settings of a running server after a reload, in which those that need a restart stay.

    Raises:
        ConfigurationError: a setting that was reloaded conflicts with one that needs a restart.
    """
    origins = {key: running if setting.effect is RESTART else read for key, setting in SETTINGS.items()}
    merged = build_settings({key: setting.value(origins[key].settings) for key, setting in SETTINGS.items()})
    conflict = next(iter(find_conflicts(merged)), None)
    if conflict is not None:
        raise ConfigurationError(
            f"{' and '.join(conflict.keys)}: {conflict.reason}. One of them needs a restart: start the server again."
        )
    changes = [
        (before.setting.effect, SettingChange(before.setting.key, before.shown, after.shown))
        for before, after in zip(running, read, strict=True)
        if before.value != after.value
    ]
    applied, deferred = (tuple(change for effect, change in changes if effect is kind) for kind in (RELOAD, RESTART))
    sources = MappingProxyType({key: origin.sources[key] for key, origin in origins.items()})
    return LoadedSettings(merged, sources, read.file), ReloadResult(applied, deferred)
