// schema.js - a form from a JSON Schema. A field is { path, node, input, read() }; read gives the value, or
// undefined for "as the server does". What has no control of its own is edited as JSON.
let fieldCount = 0;

function kindOf(schema) {
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  if (schema.enum) return "choice";
  if (types.length !== 1) return "json";
  if (types[0] === "object") return schema.properties ? "object" : "json";
  if (types[0] !== "array") return types[0];
  const items = schema.items ?? {};
  if (items.enum) return "choices";
  if (items.type === "integer" || items.type === "number") return "numbers";
  return items.type === "string" ? "lines" : "json";
}

function hintOf(schema) {
  const items = schema.items ?? {};
  const min = schema.minimum ?? items.minimum, max = schema.maximum ?? items.maximum;
  const range = min !== undefined && max !== undefined ? `${min.toLocaleString("en")} to ${max.toLocaleString("en")}` : "";
  return [schema.description, range].filter(Boolean).join("; ");
}

function parseJson(text, name) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(400, { message: `${name} is not JSON`, param: name });
  }
}

// One control a kind: (schema, value, id, name) -> [element, read, input to focus].
const CONTROLS = {
  boolean(schema, value, id) {
    const input = make("input", { type: "checkbox", id, checked: Boolean(value) });
    return [input, () => input.checked, input];
  },
  choice(schema, value, id) {
    const options = schema.enum.map((one) =>
      make("option", { value: JSON.stringify(one), textContent: String(one), selected: one === value }));
    const input = make("select", { id }, ...options);
    return [input, () => JSON.parse(input.value), input];
  },
  choices(schema, value, id) {
    const boxes = schema.items.enum.map((one, i) => ({
      one,
      box: make("input", { type: "checkbox", id: `${id}-${i}`, checked: (value ?? []).includes(one) }),
    }));
    const spans = boxes.map(({ one, box }) =>
      make("span", {}, box, make("label", { for: box.id, textContent: String(one) })));
    const read = () => boxes.filter(({ box }) => box.checked).map(({ one }) => one);
    return [make("div", { className: "choices" }, ...spans), read, boxes[0]?.box];
  },
  number(schema, value, id) {
    const input = make("input", { type: "number", id, step: schema.type === "integer" ? 1 : "any",
      min: schema.minimum ?? "", max: schema.maximum ?? "", value: value ?? "" });
    return [input, () => (input.value === "" ? undefined : input.valueAsNumber), input];
  },
  numbers(schema, value, id, name) {
    const input = make("input", { id, value: (value ?? []).join(", "), inputMode: "numeric" });
    const read = () => input.value.split(/[\s,;]+/).filter(Boolean).map((text) => {
      if (Number.isNaN(Number(text)))
        throw new ApiError(400, { message: `'${text}' is not a number`, param: name });
      return Number(text);
    });
    return [input, read, input];
  },
  string(schema, value, id) {
    const long = (schema.maxLength ?? 0) > 200;
    const input = make(long ? "textarea" : "input", { id, value: value ?? "" });
    return [input, () => (input.value === "" && !value ? undefined : input.value), input];
  },
  lines(schema, value, id) {
    const texts = value ?? [];
    const input = make("textarea", { id, value: texts.join("\n"), rows: Math.min(Math.max(texts.length, 2), 8) });
    return [input, () => input.value.split("\n").filter(Boolean), input];
  },
  json(schema, value, id, name) {
    const text = value === undefined || value === null ? "" : JSON.stringify(value, null, 1);
    const input = make("textarea", { id, value: text, className: "code", spellcheck: false });
    return [input, () => (input.value.trim() ? parseJson(input.value, name) : undefined), input];
  },
};
CONTROLS.integer = CONTROLS.number;

function makeObject(name, schema, value, path) {
  const fields = Object.entries(schema.properties).map(([key, one]) =>
    makeField(key, one, value?.[key] ?? one.default, `${path}.${key}`));
  const legend = make("legend", { textContent: words(name) });
  const node = make("fieldset", {}, legend, hintNode(schema, ""), make("div", { className: "fields" }, ...fields.map((f) => f.node)));
  return { path, node, fields, read: () => readFields(fields, schema.required ?? []) };
}

function hintNode(schema, id) {
  const hint = hintOf(schema);
  return hint ? make("p", { className: "hint", id, textContent: hint }) : null;
}

function makeField(name, schema, value, path) {
  const kind = kindOf(schema);
  if (kind === "object") return makeObject(name, schema, value, path);
  const id = `field-${++fieldCount}`;
  const [control, read, input] = CONTROLS[kind](schema, value, id, path);
  const hint = hintNode(schema, `${id}-hint`);
  const problem = make("p", { className: "error", id: `${id}-problem`, hidden: true });
  input?.setAttribute("aria-describedby", `${hint ? `${id}-hint ` : ""}${id}-problem`);
  let node;
  if (kind === "choices")
    node = make("div", { className: "field wide" }, make("fieldset", {}, make("legend", { textContent: words(name) }), control, hint, problem));
  else if (kind === "boolean")
    node = make("div", { className: "field" }, make("span", { className: "check" }, control, make("label", { for: id, textContent: words(name) })), hint, problem);
  else
    node = make("div", { className: `field${kind === "json" || kind === "lines" ? " wide" : ""}` }, make("label", { for: id, textContent: words(name) }), control, hint, problem);
  const before = JSON.stringify(read());
  return { path, node, input, problem, name, read, changed: () => JSON.stringify(read()) !== before };
}

// Only what differs from the defaults, so that a request says what its author meant.
function readFields(fields, required) {
  const values = {};
  for (const field of fields) {
    const value = field.read();
    const empty = value === undefined || (field.fields && Object.keys(value).length === 0);
    if (!empty && (field.fields || field.changed() || required.includes(field.name)))
      values[field.path.split(".").pop()] = value;
  }
  return values;
}

// Show a refusal at the field it names: the longest path that leads to error.param. False when none does.
function showProblem(fields, error) {
  const all = fields.flatMap(function flat(f) { return f.fields ? f.fields.flatMap(flat) : [f]; });
  for (const field of all) {
    field.problem.hidden = true;
    field.input?.removeAttribute("aria-invalid");
  }
  const param = error?.param ?? "";
  const hit = all.filter((f) => param === f.path || param.startsWith(`${f.path}.`) || param.startsWith(`${f.path}[`))
    .sort((a, b) => b.path.length - a.path.length)[0];
  if (!hit) return false;
  hit.problem.textContent = error.message;
  hit.problem.hidden = false;
  hit.input?.setAttribute("aria-invalid", "true");
  hit.input?.focus();
  return true;
}
