/** A pasted list or a CSV file as device ids, and what a run over them has come to. */
import type { Schemas } from '../api/client';

/** What one request takes. */
export const CHUNK = 500;

const ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/;
const HEADS = ['device_id', 'device', 'id'];

export interface Line {
  /** From 1. */
  line: number;
  text: string;
  fault: 'ill-formed' | 'double';
}

/** The ids in their order, each once, and the lines that have none. The first column counts. */
export function parse(text: string): { ids: string[]; faults: Line[] } {
  const ids = new Set<string>();
  const faults: Line[] = [];
  text.split(/\r\n|\r|\n/).forEach((row, index) => {
    const first = (row.split(/[,;\t]/)[0] ?? '').trim().replace(/^"(.*)"$/, '$1');
    if (!first || (index === 0 && HEADS.includes(first.toLowerCase()))) return;
    if (!ID.test(first)) faults.push({ line: index + 1, text: first, fault: 'ill-formed' });
    else if (ids.has(first)) faults.push({ line: index + 1, text: first, fault: 'double' });
    else ids.add(first);
  });
  return { ids: [...ids], faults };
}

export type Result = Schemas['DeviceResult'];

export const refusedOf = (results: readonly Result[]) =>
  results.filter((one) => one.status === 'refused');

export const changedOf = (results: readonly Result[]) =>
  results.filter((one) => one.status === 'assigned' || one.status === 'removed');
