/** The form of an MCP server's question to the user, as MCP 2025-11-25 defines it; the server validates the answer. */
import { list, record, text, type Loose } from "./reading";

/** The name under which questions of MCP servers come as tool requests. */
export const ELICITATION = "Elicitation";

/** `json` is for whatever the other kinds do not cover. */
export type FieldKind = "text" | "number" | "boolean" | "choice" | "choices" | "json";

export interface Field {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly isRequired: boolean;
  readonly kind: FieldKind;
  /** The values to choose from, with their labels. */
  readonly options: readonly Option[];
  readonly schema: Loose;
}

type Option = readonly [value: string, label: string];

/** The fields in the order of the server. */
export function fieldsOf(question: Loose): readonly Field[] {
  const form = record(question["requested_schema"]);
  const required = list(form["required"]);
  return Object.entries(record(form["properties"])).map(([name, value]) => {
    const schema = record(value);
    const [kind, options] = kindOf(schema);
    const label = text(schema["title"]) || name;
    return {
      name,
      label,
      description: text(schema["description"]),
      isRequired: required.includes(name),
      kind,
      options,
      schema,
    };
  });
}

function kindOf(schema: Loose): readonly [FieldKind, readonly Option[]] {
  const several = schema["type"] === "array";
  const source = several ? record(schema["items"]) : schema;
  const options = optionsOf(source);
  if (options.length > 0) return [several ? "choices" : "choice", options];
  if ("enum" in source || "oneOf" in source || "anyOf" in source) return ["json", []];
  switch (schema["type"]) {
    case "string":
      return ["text", []];
    case "number":
    case "integer":
      return ["number", []];
    case "boolean":
      return ["boolean", []];
    default:
      return ["json", []];
  }
}

/** Empty unless all values are texts. */
function optionsOf(schema: Loose): readonly Option[] {
  const titled = list(schema["oneOf"] ?? schema["anyOf"]).map(record);
  const labels = list(schema["enumNames"]);
  const found =
    titled.length > 0
      ? titled.map((option) => [option["const"], text(option["title"])] as const)
      : list(schema["enum"]).map((value, at) => [value, text(labels[at])] as const);
  const isText = ([value]: (typeof found)[number]): boolean => typeof value === "string";
  return found.every(isText) ? found.map(([value, label]) => [text(value), label || text(value)]) : [];
}

/** The values of a submitted form, in which each field has its place as its name. Optional empty ones are left out.
 *
 * @throws Error whose message names the field that cannot be sent.
 */
export function contentOf(fields: readonly Field[], form: FormData): Loose {
  const content = fields.flatMap((field, at): [string, unknown][] => {
    const key = String(at);
    const said = text(form.get(key));
    switch (field.kind) {
      case "boolean":
        return [[field.name, form.has(key)]];
      case "choices": {
        const chosen = form.getAll(key);
        checkCount(field, chosen.length);
        return chosen.length > 0 || field.isRequired ? [[field.name, chosen]] : [];
      }
      default:
        return said === "" ? [] : [[field.name, valueOf(field, said)]];
    }
  });
  return Object.fromEntries(content);
}

function valueOf({ kind, label }: Field, said: string): unknown {
  if (kind === "number") return Number(said);
  if (kind !== "json") return said;
  try {
    return JSON.parse(said);
  } catch {
    throw new Error(`${label}: this is not JSON.`);
  }
}

function checkCount({ label, isRequired, schema }: Field, count: number): void {
  const least = Number(schema["minItems"] ?? 0);
  const most = Number(schema["maxItems"] ?? Infinity);
  if ((count > 0 || isRequired) && count < least) throw new Error(`${label}: choose at least ${least}.`);
  if (count > most) throw new Error(`${label}: choose at most ${most}.`);
}
