"""The form of an MCP server's question (MCP 2025-11-25, elicitation), filled in line by line. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pocket_agent.errors import ValidationError

Kind = Literal["string", "number", "integer", "boolean", "choice", "choices", "json"]
ELICITATION: Final = "Elicitation"
"""The name under which questions of MCP servers come as tool requests."""

_BOUNDS: Final[Mapping[Kind, tuple[str, str, str]]] = {
    "string": ("minLength", "maxLength", " characters"),
    "number": ("minimum", "maximum", ""),
    "integer": ("minimum", "maximum", ""),
    "choices": ("minItems", "maxItems", " values"),
}
"""The bounds of a field's schema, and their unit."""
_YES: Final = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}


@dataclass(frozen=True)
class FormField:
    """A field of a form; `json` is for whatever the other kinds do not cover.

    Attributes:
        options: the values to choose from, with their labels.
    """

    name: str
    kind: Kind
    is_required: bool
    schema: Mapping[str, Any]
    options: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The question for the user: title, description, and what may be typed."""
        title, description = str(self.schema.get("title") or self.name), self.schema.get("description")
        head = f"{title} ({description})" if description else title
        parts = [head, self._hint(), *self._bounds()]
        if "default" in self.schema:
            parts.append(f"Enter: {json.dumps(self.schema['default'], ensure_ascii=False)}")
        elif not self.is_required:
            parts.append("Enter: leave out")
        return "; ".join(part for part in parts if part)

    def _hint(self) -> str:
        match self.kind:
            case "boolean":
                return "y or n"
            case "choice" | "choices":
                listed = ", ".join(f"{number} {label}" for number, (_, label) in enumerate(self.options, 1))
                return f"{listed}; several with commas" if self.kind == "choices" else listed
            case "json":
                return "as JSON"
            case _:
                return str(self.schema.get("format", ""))

    def _bounds(self) -> list[str]:
        names = {"minimum": "at least {}", "maximum": "at most {}"}
        return [words.format(self.schema[name]) for name, words in names.items() if name in self.schema]

    def read(self, line: str) -> object:
        """The value of a typed line.

        Raises:
            ValidationError: the line is not a value of this field.
        """
        value = self._value(line)
        if self.kind in _BOUNDS:
            low, high, unit = _BOUNDS[self.kind]
            size = value if isinstance(value, int | float) else len(value)
            least, most = self.schema.get(low), self.schema.get(high)
            if isinstance(least, int | float) and size < least:
                raise ValidationError(f"{self.name}: at least {least}{unit}.")
            if isinstance(most, int | float) and size > most:
                raise ValidationError(f"{self.name}: at most {most}{unit}.")
        return value

    def _value(self, line: str) -> Any:
        match self.kind:
            case "string":
                return line
            case "boolean":
                if line.lower() not in _YES:
                    raise ValidationError(f"{self.name}: y or n.")
                return _YES[line.lower()]
            case "choice":
                return self._option(line)
            case "choices":
                return [self._option(part.strip()) for part in line.split(",")]
            case _:
                return self._json(line)

    def _json(self, line: str) -> Any:
        try:
            value = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            raise ValidationError(f"{self.name}: this is not a value in JSON, such as 5 or true.") from error
        if self.kind == "integer" and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValidationError(f"{self.name}: a whole number.")
        if self.kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValidationError(f"{self.name}: a number.")
        return value

    def _option(self, line: str) -> str:
        if line.isdecimal() and 1 <= int(line) <= len(self.options):
            return self.options[int(line) - 1][0]
        found = [value for value, label in self.options if line in {value, label}]
        if len(found) != 1:
            raise ValidationError(f"{self.name}: one of the numbers 1 to {len(self.options)}.")
        return found[0]


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


class Form:
    """The fields of a question, one after the other.

    Attributes:
        approval_id: of the question.
    """

    def __init__(self, approval_id: str, question: Mapping[str, Any]) -> None:
        self.approval_id = approval_id
        self._content: dict[str, object] = {}
        self._fields = [] if question.get("mode") == "url" else fields_of(question)
        self._place = 0

    @property
    def field(self) -> FormField | None:
        """The field that comes next; None when the form is filled in."""
        return self._fields[self._place] if self._place < len(self._fields) else None

    @property
    def content(self) -> dict[str, object] | None:
        """The values so far, by the names of their fields; None for a question without a form."""
        return self._content if self._fields else None

    def take(self, line: str) -> None:
        """Fill in the next field; an empty line takes its default, or leaves it out.

        Raises:
            ValidationError: the line is not a value of the field, which still comes next.
        """
        field = self.field
        assert field is not None
        if line:
            self._content[field.name] = field.read(line)
        elif "default" in field.schema:
            self._content[field.name] = field.schema["default"]
        elif field.is_required:
            raise ValidationError(f"{field.name}: a value is needed.")
        self._place += 1


def fields_of(question: Mapping[str, Any]) -> list[FormField]:
    """The fields of a question, in the order of the server."""
    form = _mapping(question.get("requested_schema"))
    required = form.get("required")
    return [
        FormField(name, kind, isinstance(required, list) and name in required, schema, options)
        for name, schema in ((name, _mapping(value)) for name, value in _mapping(form.get("properties")).items())
        for kind, options in (_kind_of(schema),)
    ]


def _kind_of(schema: Mapping[str, Any]) -> tuple[Kind, tuple[tuple[str, str], ...]]:
    is_list = schema.get("type") == "array"
    source = _mapping(schema.get("items")) if is_list else schema
    options = _options_of(source)
    if options:
        return ("choices" if is_list else "choice"), options
    if not {"enum", "oneOf", "anyOf"} & set(source):
        match schema.get("type"):
            case "string" | "number" | "integer" | "boolean" as kind:
                return kind, ()
    return "json", ()


def _options_of(schema: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Empty unless all values are texts."""
    titled = schema.get("oneOf") or schema.get("anyOf")
    values, labels = schema.get("enum"), schema.get("enumNames")
    if isinstance(titled, list):
        found = [(_mapping(option).get("const"), _mapping(option).get("title")) for option in titled]
    elif isinstance(values, list):
        names = labels if isinstance(labels, list) and len(labels) == len(values) else values
        found = list(zip(values, names, strict=True))
    else:
        return ()
    texts = [(value, str(label or value)) for value, label in found if isinstance(value, str)]
    return tuple(texts) if len(texts) == len(found) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
