"""Fonts that no machine has: each character is a box of a given size, so a page can be seen as other fonts make it."""

import struct
from typing import Final

_UNITS: Final = 1000
"""Font units to the em (OpenType, table `head`)."""
_FIRST, _LAST = 0x20, 0x17F
"""The characters that are boxes: Latin; for all others the browser takes a font of the machine."""


def font(advance: int, ascent: int, descent: int) -> bytes:
    """A TrueType font with one glyph for all Latin characters.

    Args:
        advance: the width of each character, in thousandths of the font size; DejaVu Sans has about 600.
        ascent: from the baseline to the top of a line; DejaVu Sans has 928.
        descent: from the baseline to the bottom of a line; DejaVu Sans has 236.
    """
    box = (0, 0, advance * 8 // 10, ascent * 7 // 10)
    right, top = box[2:]
    # One contour of four points on the curve, each coordinate a 16-bit difference to the one before.
    glyph = struct.pack(">5h2H4B8h", 1, *box, 3, 0, 1, 1, 1, 1, 0, right, 0, -right, 0, 0, top, 0)
    glyph += bytes(-len(glyph) % 4)
    # Format 4, whose second segment ends the table; the glyph ids of the first stand behind its offsets.
    count = _LAST - _FIRST + 1
    body = struct.pack(">12H 2h 2H", 4, 32 + 2 * count, 0, 4, 4, 1, 0, _LAST, 0xFFFF, 0, _FIRST, 0xFFFF, 0, 1, 4, 0)
    cmap = struct.pack(">HH HHL", 0, 1, 3, 1, 12) + body + struct.pack(f">{count}H", *[1] * count)
    text = "Boxes".encode("utf-16-be")
    names = (1, 2, 3, 4, 6)
    name = struct.pack(">HHH", 0, len(names), 6 + 12 * len(names))
    name += b"".join(struct.pack(">6H", 3, 1, 0x409, each, len(text), 0) for each in names) + text
    os2 = struct.pack(">Hh3H11h", 4, advance, 400, 5, 0, *[0] * 11) + bytes(10 + 16) + b"TEST"
    os2 += struct.pack(">3H3h2H", 0x40, _FIRST, _LAST, ascent, -descent, 0, ascent, descent)
    os2 += struct.pack(">2L2h3H", 1, 0, ascent // 2, ascent, 0, 0x20, 1)
    tables = {
        b"OS/2": os2,
        b"cmap": cmap,
        b"glyf": glyph,
        b"head": struct.pack(">2H3L2H2q4h2H3h", 1, 0, 0x10000, 0, 0x5F0F3CF5, 0, _UNITS, 0, 0, *box, 0, 8, 2, 0, 0),
        b"hhea": struct.pack(">HH3hH11hH", 1, 0, ascent, -descent, 0, advance, 0, 0, right, 1, *[0] * 7, 2),
        b"hmtx": struct.pack(">HhHh", advance, 0, advance, 0),
        b"loca": struct.pack(">HHH", 0, 0, len(glyph) // 2),
        b"maxp": struct.pack(">L14H", 0x10000, 2, 4, 1, 0, 0, 1, *[0] * 8),
        b"name": name,
        b"post": struct.pack(">2L2h5L", 0x30000, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    return _file(tables)


def _file(tables: dict[bytes, bytes]) -> bytes:
    """Put tables, sorted by their tags, into a file."""
    directory, data = b"", b""
    at = 12 + 16 * len(tables)
    for tag, table in tables.items():
        padded = table + bytes(-len(table) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}L", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4sLLL", tag, total, at + len(data), len(table))
        data += padded
    power = len(tables).bit_length() - 1
    searched = 16 << power
    return struct.pack(">L4H", 0x10000, len(tables), searched, power, 16 * len(tables) - searched) + directory + data


SMALL: Final = font(advance=380, ascent=700, descent=150)
"""Narrower and lower than any font of a system."""
LARGE: Final = font(advance=700, ascent=1069, descent=293)
"""As wide as bold letters in a wide font, and as high as Noto Sans."""
