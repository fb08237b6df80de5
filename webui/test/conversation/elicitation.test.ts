import { expect, test } from "vitest";
import { contentOf, fieldsOf } from "../../src/conversation/elicitation";

const TITLED = [
  { const: "a", title: "First" },
  { const: "b", title: "Second" },
];

/** A form with each kind of field that MCP defines, and some that it does not. */
const QUESTION = {
  requested_schema: {
    required: ["name", "tags"],
    properties: {
      name: { type: "string", title: "Your name", description: "In full", default: "Ada" },
      size: { type: "integer" },
      rate: { type: "number" },
      sure: { type: "boolean" },
      plain: { type: "string", enum: ["x", "y"], enumNames: ["The x"] },
      titled: { type: "string", oneOf: TITLED },
      tags: { type: "array", items: { anyOf: TITLED }, minItems: 1, maxItems: 1 },
      words: { type: "array", items: { type: "string", enum: ["u", "v"] } },
      odd: { type: "string", enum: [1, 2] },
      deep: { type: "object" },
      free: true,
    },
  },
};

test("each field has its kind, label and choices, in the order of the server", () => {
  const fields = fieldsOf(QUESTION);
  expect(fields.map(({ name, kind }) => [name, kind])).toEqual([
    ["name", "text"],
    ["size", "number"],
    ["rate", "number"],
    ["sure", "boolean"],
    ["plain", "choice"],
    ["titled", "choice"],
    ["tags", "choices"],
    ["words", "choices"],
    ["odd", "json"],
    ["deep", "json"],
    ["free", "json"],
  ]);
  expect(fields[0]).toMatchObject({ label: "Your name", description: "In full", isRequired: true });
  expect(fields[1]).toMatchObject({ label: "size", isRequired: false });
  expect(fields[4]?.options).toEqual([
    ["x", "The x"],
    ["y", "y"],
  ]);
  expect(fields[6]?.options).toEqual([
    ["a", "First"],
    ["b", "Second"],
  ]);
});

/** The form as it is submitted, by the names of the fields. */
function submitted(values: Readonly<Record<string, string | readonly string[]>>): FormData {
  const names = fieldsOf(QUESTION).map(({ name }) => name);
  const form = new FormData();
  for (const [name, given] of Object.entries(values)) {
    for (const value of typeof given === "string" ? [given] : given) form.append(String(names.indexOf(name)), value);
  }
  return form;
}

test("values have the types of their fields, and empty optional ones are left out", () => {
  const form = submitted({ name: "Ada", size: "3", rate: "", sure: "on", plain: "", tags: ["a"], deep: '{"a": [1]}' });
  expect(contentOf(fieldsOf(QUESTION), form)).toEqual({
    name: "Ada",
    size: 3,
    sure: true,
    tags: ["a"],
    deep: { a: [1] },
  });
  expect(contentOf(fieldsOf(QUESTION), submitted({ name: "A", tags: ["b"] }))).toEqual({
    name: "A",
    sure: false,
    tags: ["b"],
  });
});

test("what cannot be sent names its field", () => {
  const fields = fieldsOf(QUESTION);
  expect(() => contentOf(fields, submitted({ name: "A", tags: [] }))).toThrow("tags: choose at least 1");
  expect(() => contentOf(fields, submitted({ name: "A", tags: ["a", "b"] }))).toThrow("tags: choose at most 1");
  expect(() => contentOf(fields, submitted({ name: "A", tags: ["a"], odd: "{" }))).toThrow("odd: this is not JSON");
});

test("a schema of any other shape has no fields, and does no harm", () => {
  for (const requested_schema of [undefined, null, 5, [], { properties: [] }, { properties: null, required: 5 }]) {
    expect(fieldsOf({ requested_schema })).toEqual([]);
  }
  expect(
    fieldsOf({ requested_schema: { properties: { a: null, b: { enum: "x" }, c: { oneOf: [5] } } } }),
  ).toMatchObject([{ kind: "json" }, { kind: "json" }, { kind: "json" }]);
});
