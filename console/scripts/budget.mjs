// Fails when a page is heavier than it may be: what is transferred (gzip) before it shows.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const FIRST_LOAD = 150;
const PAGE = 15;
const STYLE = 12;

const dist = new URL('../dist/', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('.vite/manifest.json', dist)));
const kib = (file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length / 1024;

/** The files that a chunk needs before it runs. */
function needs(key, seen = new Set()) {
  if (!seen.has(key)) {
    seen.add(key);
    for (const other of manifest[key].imports ?? []) needs(other, seen);
  }
  return seen;
}

const entry = Object.keys(manifest).find((key) => manifest[key].isEntry);
const first = needs(entry);
const sum = (keys) => [...keys].reduce((total, key) => total + kib(manifest[key].file), 0);
const style = [...new Set(Object.values(manifest).flatMap((chunk) => chunk.css ?? []))];
const failures = [];
function bar(what, value, limit) {
  console.log(`${value.toFixed(1).padStart(6)} KiB of ${limit}  ${what}`);
  if (value > limit) failures.push(what);
}

const shell = sum(first);
bar('JavaScript that every page needs', shell, FIRST_LOAD);
for (const key of Object.keys(manifest).filter((key) => manifest[key].isDynamicEntry)) {
  const own = [...needs(key)].filter((part) => !first.has(part));
  bar(`page ${key}`, sum(own), PAGE);
  if (shell + sum(own) > FIRST_LOAD) failures.push(`${key}: its first load`);
}
bar(
  'style sheets',
  style.reduce((total, file) => total + kib(file), 0),
  STYLE,
);
if (failures.length > 0) {
  console.error(`over the budget: ${failures.join(', ')}`);
  process.exit(1);
}
