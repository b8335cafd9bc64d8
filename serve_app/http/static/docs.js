// The reference, made from openapi.json. Everything is set as text.

function element(name, text, className) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Text in which `code` stands between backticks.
function prose(name, text) {
  const made = element(name);
  text.split("`").forEach((piece, place) => made.append(place % 2 ? element("code", piece) : piece));
  return made;
}

// What a field may be, in a few words.
function kindOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return kindOf(contract.components.schemas[schema.$ref.split("/").pop()]);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map(kindOf))].join(" | ");
  if (schema.type === "array") return `[${kindOf(schema.items)}]`;
  if (schema.type === "object" && schema.properties) return `{${Object.keys(schema.properties).join(", ")}}`;
  return schema.type ?? "any";
}

function fields(schema) {
  const { properties = {}, required = [] } = schema.$ref ? contract.components.schemas[schema.$ref.split("/").pop()] : schema;
  return Object.entries(properties).map(([name, field]) => {
    const notes = [kindOf(field), required.includes(name) ? "required" : "", field.description ?? ""];
    return [name, notes.filter(Boolean).join("; ")];
  });
}

function section(made, title, entries) {
  if (!entries.length) return;
  const list = element("dl");
  rows(list, entries);
  made.append(element("h3", title), list);
}

function rows(list, entries) {
  for (const [name, text] of entries) {
    const term = element("dt");
    term.append(element("code", name));
    list.append(term, prose("dd", text));
  }
}

function article(path, method, operation) {
  const made = element("article");
  const heading = element("h2");
  heading.append(element("span", method.toUpperCase(), "method"), element("code", path));
  const text = [operation.summary, operation.description].filter(Boolean).map((each) => each.replace(/\.?$/, "."));
  made.append(heading, prose("p", text.join(" ")));
  section(made, "Parameters", (operation.parameters ?? []).map((each) => [each.name, `${each.in}; ${each.description}`]));
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    section(made, `Body as ${type}`, fields(schema));
  }
  const answer = operation.responses[200]?.content?.["application/json"]?.schema;
  if (answer) section(made, "Answer", fields(answer));
  section(made, "Statuses", Object.entries(operation.responses).map(([status, each]) => [status, each.description]));
  return made;
}

const contract = await (await fetch("openapi.json")).json();
for (const [path, methods] of Object.entries(contract.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    document.getElementById("operations").append(article(path, method, operation));
  }
}
