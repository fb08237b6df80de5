"""Takes what may be secret out of a text that is not made for the log. Pure."""

import re
from typing import Final

_TOKEN: Final = re.compile(r"\bpa_[\w-]+")
"""A device's token (server/auth.py)."""
_CREDENTIALS: Final = re.compile(r"\b(bearer|basic|digest)\s+[^\s'\",;]+", re.IGNORECASE)
_URL: Final = re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s/?#'\"]*)([/?#][^\s'\"]*)?", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"([\w-]*(?:token|secret|password|passwd|api[-_]?key|authorization|cookie)[\w-]*['\"]?\s*[:=]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s,;&]+)",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"")


def masked(text: str) -> str:
    """The text without tokens, credentials, and of URLs only scheme, host and port."""
    text = _TOKEN.sub("pa_…", text)
    text = _CREDENTIALS.sub(r"\1 …", text)
    text = _URL.sub(lambda found: found[1] + found[2] + ("/…" if found[3] else ""), text)
    return _NAMED.sub(r"\1…", text)


def without_quotations(text: str) -> str:
    """The text without what stands in quotation marks, as values do in messages and in `repr`s."""
    return _QUOTED.sub("'…'", text)
