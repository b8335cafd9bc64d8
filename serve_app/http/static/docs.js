// The reference, made from openapi.json. Everything is set as text.

function element(name, text, className) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function schemaName(schema) {
  return schema?.$ref?.split("/").pop() ?? schema?.type ?? "";
}

function rows(list, entries) {
  for (const [name, text] of entries) {
    const term = element("dt");
    term.append(element("code", name));
    list.append(term, element("dd", text));
  }
}

function article(path, method, operation) {
  const made = element("article");
  const heading = element("h2");
  heading.append(element("span", method.toUpperCase(), "method"), element("code", path));
  made.append(heading, element("p", `${operation.summary}. ${operation.description ?? ""}`));
  const list = element("dl");
  rows(list, (operation.parameters ?? []).map((each) => [each.name, `${each.in}: ${each.description}`]));
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  rows(list, bodies.map(([type, { schema }]) => [type, schemaName(schema) === "object" ? Object.keys(schema.properties).join(", ") : schemaName(schema)]));
  rows(list, Object.entries(operation.responses).map(([status, answer]) => [status, answer.description]));
  made.append(list);
  return made;
}

const contract = await (await fetch("openapi.json")).json();
for (const [path, methods] of Object.entries(contract.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    document.getElementById("operations").append(article(path, method, operation));
  }
}
