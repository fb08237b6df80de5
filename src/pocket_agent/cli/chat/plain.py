"""Text of an agent, made safe for a terminal: nothing in it can move the cursor or change the reading order."""

import re
from typing import Final

_PICTURES: Final = 0x2400
"""Unicode block "Control Pictures": the picture of control character N is 0x2400 + N."""

UNSEEN: Final = (
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that are not seen, or that reorder those around them, as ranges of a regular expression.

They are those of the Unicode category Cf and of the property Default_Ignorable_Code_Point (bidirectional controls, see
CVE-2021-42574, zero width characters, variation selectors, tags, Hangul fillers), the line separators, and the blank
Braille pattern. `webui/src/text/visible.ts` has the same list for the web client; a test compares both.
"""

SPACES: Final = r"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Spaces that look like U+0020 and are not (Unicode category Zs). A shell takes `rm\u00a0x` for one word."""

_KEPT: Final = (
    # A joiner or a presentation selector inside an emoji, and a joiner inside an Arabic or Indic word, hide nothing.
    r"(?<=[\u2190-\u2bff\U0001f000-\U0001faff#*0-9])\ufe0f|(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d"
    r"(?=[\u2600-\u2bff\U0001f000-\U0001faff])|(?<=[\u0620-\u0dff])[\u200c\u200d](?=[\u0620-\u0dff])"
    # So does the wide space between wide letters.
    r"|(?<=[\u3001-\u30ff\u3400-\u9fff\uff01-\uff9f])\u3000(?=[\u3001-\u30ff\u3400-\u9fff\uff01-\uff9f])"
)
_UNSAFE: Final = (
    # C0 but tab and newline, DEL, C1 (ECMA-48: CSI and OSC have C1 forms), lone surrogates.
    rf"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{UNSEEN}"
)
_IN_PROSE: Final = re.compile(rf"{_KEPT}|([{_UNSAFE}])")
_DECIDED: Final = re.compile(rf"{_KEPT}|([{_UNSAFE}{SPACES}])")


def plain(text: str, *, prose: bool = False) -> str:
    """`text` with each character that a terminal would obey, or not show, replaced by one that it shows.

    Args:
        text: of an agent, or of another device.
        prose: no user decides on it (prompts, answers, output), so spaces of all kinds stay as they are.
    """
    return (_IN_PROSE if prose else _DECIDED).sub(_shown, text.replace("\r\n", "\n"))


def _shown(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
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
