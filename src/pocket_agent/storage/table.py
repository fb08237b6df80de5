"""Values to rows and back: a table has one column for each field of its value, by the field's name."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

Value = TypeVar("Value", bound=msgspec.Struct)
Codec = tuple[Callable[[Any], object], Callable[[Any], object]]
"""From a field to its column, and back."""

FLAG: Final[Codec] = (int, bool)


class Table(Generic[Value]):
    """The SQL of one table and its value.

    Attributes:
        columns: the quoted names of the columns, in the order of the fields.
    """

    def __init__(
        self,
        name: str,
        value: type[Value],
        *,
        key: str = "id",
        fixed: frozenset[str] = frozenset(),
        codecs: Mapping[str, Codec] | None = None,
        computed: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a table.

        Args:
            name: the table's.
            value: a Struct; its fields name the columns.
            key: the columns of the primary key.
            fixed: fields that never change once stored. Indexed ones belong here: SQLite would
                rewrite their indexes at each update.
            codecs: for the fields whose values are not SQLite's own.
            computed: fields that are read by an expression instead of their column.
        """
        self._name = name
        self._value = value
        fields = value.__struct_fields__
        given = codecs or {}
        self._codecs = [(index, *given[field]) for index, field in enumerate(fields) if field in given]
        self.columns = ", ".join((computed or {}).get(field, f"[{field}]") for field in fields)
        marks = ", ".join("?" * len(fields))
        updates = ", ".join(f"[{field}] = excluded.[{field}]" for field in fields if field not in fixed)
        # S608, here and below: the text is made of names and conditions of this package, never of input.
        self._insert = f"INSERT INTO {name}({self.columns}) VALUES ({marks})"  # noqa: S608 - see above
        self._upsert = f"{self._insert} ON CONFLICT({key}) DO UPDATE SET {updates}"

    def row(self, value: Value) -> list[object]:
        """The columns of a value."""
        row = list(msgspec.structs.astuple(value))
        for index, encode, _ in self._codecs:
            row[index] = encode(row[index])
        return row

    def insert(self, connection: sqlite3.Connection, value: Value) -> None:
        """Insert a value that is not there. Raises sqlite3.IntegrityError when it is."""
        connection.execute(self._insert, self.row(value))

    def put(self, connection: sqlite3.Connection, value: Value) -> None:
        """Insert a value, or update all of it but the fields that never change."""
        connection.execute(self._upsert, self.row(value))

    def find(self, connection: sqlite3.Connection, rest: str, *parameters: object) -> list[Value]:
        """The values of a query, which is given from after FROM."""
        query = f"SELECT {self.columns} FROM {self._name} {rest}"  # noqa: S608 - see above
        return [self._decode(row) for row in connection.execute(query, parameters).fetchall()]

    def first(self, connection: sqlite3.Connection, rest: str, *parameters: object) -> Value | None:
        """The first value of a query, which is given from after FROM."""
        found = self.find(connection, f"{rest} LIMIT 1", *parameters)
        return found[0] if found else None

    def _decode(self, row: tuple[Any, ...]) -> Value:
        if not self._codecs:
            return self._value(*row)
        fields = list(row)
        for index, _, decode in self._codecs:
            fields[index] = decode(fields[index])
        return self._value(*fields)
