/** A form's text: kept while it differs from what is saved, over a reload and a sign-in. */
import { useEffect, useState } from 'react';

export type Fields = Record<string, string>;

interface Kept {
  /** What it was typed over: the third side of a merge. */
  base: Fields;
  version: number;
  fields: Fields;
}

function read(key: string): Kept | null {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? 'null') as Kept | null;
  } catch {
    return null;
  }
}

const same = (one: Fields, other: Fields) =>
  Object.keys(one).every((name) => one[name] === other[name]);

export interface Draft {
  fields: Fields;
  base: Fields;
  version: number;
  dirty: boolean;
  /** It was typed earlier and has come back. */
  restored: boolean;
  set: (name: string, value: string) => void;
  /** Takes another state as typed over: after a merge. */
  rebase: (base: Fields, version: number, fields: Fields) => void;
  /** Saved or given up: forgets what was typed. */
  clear: (base: Fields, version: number) => void;
}

/** The draft of one object. `saved` is its present state. */
export function useDraft(name: string, saved: Fields, version: number): Draft {
  const key = `draft.${name}`;
  const [kept, setKept] = useState<Kept>(
    () => read(key) ?? { base: saved, version, fields: saved },
  );
  const [restored, setRestored] = useState(() => read(key) !== null);
  const dirty = !same(kept.base, kept.fields);
  useEffect(() => {
    if (dirty) sessionStorage.setItem(key, JSON.stringify(kept));
    else sessionStorage.removeItem(key);
  }, [key, kept, dirty]);
  return {
    ...kept,
    dirty,
    restored: restored && dirty,
    set: (field, value) =>
      setKept((now) => ({ ...now, fields: { ...now.fields, [field]: value } })),
    rebase: (base, newer, fields) => setKept({ base, version: newer, fields }),
    clear: (base, newer) => {
      setRestored(false);
      setKept({ base, version: newer, fields: base });
    },
  };
}
