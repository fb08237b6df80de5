"""Figures in words, as the templates of Prometheus write them (Template reference, Functions)."""

from typing import Final

_LARGE: Final = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY: Final = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SMALL: Final = ("m", "u", "n", "p", "f", "a", "z", "y")


def humanize(value: float) -> str:
    """A number with a metric prefix: `1.5k`, `20m`."""
    if value != 0 and abs(value) < 1:
        return _scaled(value, _SMALL, 1 / 1000)
    return _scaled(value, _LARGE, 1000)


def humanize_binary(value: float) -> str:
    """The same with a prefix of 1024 (`humanize1024`); without any below 1."""
    return f"{value:.4g}" if abs(value) <= 1 else _scaled(value, _BINARY, 1024)


def humanize_percentage(value: float) -> str:
    """A ratio in percent."""
    return f"{value * 100:.4g}%"


def humanize_duration(value: float) -> str:
    """Seconds: `1d 2h 3m 4s`, or with a metric prefix below one."""
    if value == 0:
        return "0s"
    if abs(value) < 1:
        return f"{_scaled(value, _SMALL, 1 / 1000)}s"
    sign, rest = ("-" if value < 0 else ""), int(abs(value))
    parts = [rest // 86400, rest // 3600 % 24, rest // 60 % 60]
    while parts and parts[0] == 0:
        parts.pop(0)
    if not parts:
        return f"{sign}{abs(value):.4g}s"
    units = ("d", "h", "m")[-len(parts) :]
    return sign + " ".join([*(f"{part}{unit}" for part, unit in zip(parts, units, strict=True)), f"{rest % 60}s"])


def _scaled(value: float, prefixes: tuple[str, ...], factor: float) -> str:
    """A value that is brought between 1 and the factor, with the prefix of it."""
    prefix = ""
    for each in prefixes:
        if (abs(value) < factor) if factor > 1 else (abs(value) >= 1):
            break
        prefix, value = each, value / factor if factor > 1 else value * 1000
    return f"{value:.4g}{prefix}"
