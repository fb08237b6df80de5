"""How much of the database's file holds nothing, without opening the database."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocket_agent.errors import FileOperationError
from pocket_agent.storage.fault import faults_mapped

# https://www.sqlite.org/fileformat.html#the_database_header
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_LARGEST_PAGE: Final = 65536
"""What a page size of 1 in the header stands for."""


@dataclass(frozen=True, slots=True)
class Space:
    """The database's file, as it was when the write-ahead log was last moved into it.

    Attributes:
        size_bytes: of the file.
        unused_bytes: of its pages that hold nothing, and are used again for what comes.
    """

    size_bytes: int
    unused_bytes: int

    @property
    def used_bytes(self) -> int:
        """What it would take without them."""
        return self.size_bytes - self.unused_bytes


def read_space(database: Path) -> Space:
    """Read it off the file's header; takes no lock and changes nothing.

    Raises:
        FileOperationError: there is no such file, it cannot be read, or is no database.
    """
    if not database.exists():
        raise FileOperationError(f"There is no database at {database}.", details={"reason": "cannot_open"})
    with faults_mapped():
        size = database.stat().st_size
        with database.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise FileOperationError("The file is not a database.", details={"reason": "not_a_database"})
    (page,) = struct.unpack_from(">H", header, 16)
    (unused,) = struct.unpack_from(">I", header, 36)
    return Space(size, min(size, unused * (page if page > 1 else _LARGEST_PAGE)))
