// What a field of a request takes, from the OpenAPI document: one constant a schema, for inputs.
import { readFileSync, writeFileSync } from 'node:fs';

const document = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url)));
const out = ['// Made by scripts/constraints.mjs. Do not edit.'];

const bodies = new Set();
for (const operations of Object.values(document.paths)) {
  for (const operation of Object.values(operations)) {
    const content = operation.requestBody?.content?.['application/json'];
    const name = content?.schema?.$ref?.split('/').pop();
    if (name) bodies.add(name);
  }
}

/** The pattern as an input takes it (the `v` flag); none for those that only bar control codes. */
function pattern(text) {
  if (!text || text.includes('\\x00')) return undefined;
  const source = text.replace(/^\^|\$$/g, '').replaceAll('-]', '\\-]');
  try {
    new RegExp(source, 'v');
    return source;
  } catch {
    return undefined;
  }
}

for (const name of [...bodies].sort()) {
  const schema = document.components.schemas[name];
  const fields = {};
  for (const [field, of] of Object.entries(schema?.properties ?? {})) {
    fields[field] = {
      required: schema.required?.includes(field) || undefined,
      maxLength: of.maxLength,
      min: of.minimum,
      max: of.maximum,
      pattern: pattern(of.pattern),
    };
  }
  out.push(`export const ${name} = ${JSON.stringify(fields)} as const;`);
}
writeFileSync(new URL('../src/api/constraints.gen.ts', import.meta.url), `${out.join('\n')}\n`);
