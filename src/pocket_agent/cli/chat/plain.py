"""Text of an agent, made safe for a terminal: nothing in it can move the cursor or change the reading order."""

import re
from typing import Final

_PICTURES: Final = 0x2400
"""Unicode block "Control Pictures": the picture of control character N is 0x2400 + N."""

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1 (ECMA-48: CSI and OSC have C1 forms)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls, see CVE-2021-42574
    "\u2028\u2029\ufeff\ud800-\udfff\U000e0000-\U000e007f]"  # line separators, surrogates, invisible tags
)


def plain(text: str) -> str:
    """`text` with each character that a terminal would obey, or not show, replaced by one that it shows."""
    return _UNSAFE.sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return "\n" if code in {0x2028, 0x2029} else f"<U+{code:04X}>"


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
