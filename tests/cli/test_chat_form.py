"""pocket_agent.cli.chat.form: the form of an MCP server's question, filled in line by line."""

from typing import Any, Final

import pytest

from pocket_agent.cli.chat.form import Form, fields_of
from pocket_agent.errors import ValidationError

TITLED: Final = [{"const": "a", "title": "First"}, {"const": "b", "title": "Second"}]
FIELDS: Final[dict[str, Any]] = {
    "name": {"type": "string", "title": "Your name", "description": "In full", "minLength": 2, "maxLength": 5},
    "size": {"type": "integer", "minimum": 1, "maximum": 9},
    "rate": {"type": "number"},
    "sure": {"type": "boolean", "default": True},
    "plain": {"type": "string", "enum": ["x", "y"], "enumNames": ["The x", "The y"]},
    "titled": {"type": "string", "oneOf": TITLED},
    "tags": {"type": "array", "items": {"anyOf": TITLED}, "minItems": 1, "maxItems": 2},
    "odd": {"type": "string", "enum": [1, 2]},
    "deep": {"type": "object"},
    "free": True,
}
QUESTION: Final = {"requested_schema": {"properties": FIELDS, "required": ["name", "tags"]}}


def test_each_field_has_its_kind_in_the_order_of_the_server() -> None:
    kinds = ["string", "integer", "number", "boolean", "choice", "choice", "choices", "json", "json", "json"]
    assert [(field.name, field.kind) for field in fields_of(QUESTION)] == list(zip(FIELDS, kinds, strict=True))
    labels = {field.name: field.label for field in fields_of(QUESTION)}
    assert labels["name"] == "Your name (In full)"
    assert labels["size"] == "size; at least 1; at most 9; Enter: leave out"
    assert labels["sure"] == "sure; y or n; Enter: true"
    assert labels["tags"] == "tags; 1 First, 2 Second; several with commas"


def test_lines_become_values() -> None:
    form = Form("a-1", QUESTION)
    for line in ("Ada", "3", "", "", "The y", "2", "1, Second", "1", '{"a": [1]}', ""):
        form.take(line)
    assert form.field is None
    assert form.content == {
        "name": "Ada",
        "size": 3,
        "sure": True,
        "plain": "y",
        "titled": "b",
        "tags": ["a", "b"],
        "odd": 1,
        "deep": {"a": [1]},
    }


def test_a_line_that_is_no_value_is_refused_and_asked_for_again() -> None:
    wrong = {
        "name": ["", "A", "Adaline"],
        "size": ["0", "10", "1.5", "true", "x"],
        "rate": ["x", "NaN", "false"],
        "sure": ["maybe"],
        "plain": ["z", "3"],
        "titled": ["0"],
        "tags": ["", "c", "1,1,1"],
        "odd": ["{"],
    }
    right = {
        "name": "Ada",
        "size": "3",
        "rate": "0.5",
        "sure": "n",
        "plain": "1",
        "titled": "a",
        "tags": "2",
        "odd": "2",
    }
    form = Form("a-1", QUESTION)
    for name, lines in wrong.items():
        for line in lines:
            assert form.field is not None
            with pytest.raises(ValidationError, match=name):
                form.take(line)
            assert form.field.name == name, line
        form.take(right[name])


def test_a_question_without_a_form_has_no_content() -> None:
    questions: list[dict[str, Any]] = [{"mode": "url", "url": "https://x", **QUESTION}, {}, {"requested_schema": 5}]
    for question in questions:
        form = Form("a-1", question)
        assert (form.field, form.content) == (None, None)
