"""The settings of a running server: what a reload changes."""

from collections.abc import Iterator
from dataclasses import dataclass

from pocket_agent.errors import ConfigurationError
from pocket_agent.settings.combinations import find_conflicts
from pocket_agent.settings.load import LoadedSettings, build_settings
from pocket_agent.settings.sections import RELOAD, RESTART, SETTINGS, Setting, Settings, SettingsSection


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


def merge_reload(running: LoadedSettings, read: LoadedSettings) -> tuple[Settings, ReloadResult]:
    """The settings of a running server after a reload: those that need a restart stay; neither argument is changed.

    Raises:
        ConfigurationError: a setting that was reloaded conflicts with one that needs a restart.
    """
    changes = list(_changes(running, read))
    values = {
        key: setting.value((running if setting.effect is RESTART else read).settings)
        for key, setting in SETTINGS.items()
    }
    merged = build_settings(values)
    conflict = next(iter(find_conflicts(merged)), None)
    if conflict is not None:
        raise ConfigurationError(
            f"{' and '.join(conflict.keys)}: {conflict.reason}. One of them needs a restart: start the server again."
        )
    return merged, ReloadResult(
        tuple(change for setting, change in changes if setting.effect is RELOAD),
        tuple(change for setting, change in changes if setting.effect is RESTART),
    )


def apply_reload(settings: Settings, merged: Settings) -> None:
    """Copy the values of `merged` into the settings that the parts of the server hold."""
    for setting in SETTINGS.values():
        value = setting.value(merged)
        if value != setting.value(settings):
            _put(settings, setting, value)


def _changes(running: LoadedSettings, read: LoadedSettings) -> Iterator[tuple[Setting, SettingChange]]:
    for before, after in zip(running, read, strict=True):
        if before.value != after.value:
            yield before.setting, SettingChange(before.setting.key, before.shown, after.shown)


def _put(settings: Settings, setting: Setting, value: object) -> None:
    *sections, name = setting.key.split(".")
    section: SettingsSection = settings
    for part in sections:
        section = getattr(section, part)
    section.__dict__[name] = value
