/** Three sides of a change: what was there, what somebody else saved, and what was typed here. */

import type { Fields } from './draft';

export interface Difference {
  field: string;
  base: string;
  theirs: string;
  mine: string;
  /** Both changed it, to different values: a person has to choose. */
  conflict: boolean;
}

/** The fields in which the sides differ. */
export function differences(base: Fields, theirs: Fields, mine: Fields): Difference[] {
  return Object.keys(base)
    .map((field) => ({
      field,
      base: base[field] ?? '',
      theirs: theirs[field] ?? '',
      mine: mine[field] ?? '',
    }))
    .filter((at) => at.theirs !== at.base || at.mine !== at.base)
    .map((at) => ({
      ...at,
      conflict: at.theirs !== at.base && at.mine !== at.base && at.theirs !== at.mine,
    }));
}

/** The fields after the merge: a change of one side is taken, a conflict as it was chosen. */
export function merged(
  theirs: Fields,
  all: readonly Difference[],
  chosen: Readonly<Record<string, 'theirs' | 'mine'>>,
): Fields {
  const out = { ...theirs };
  for (const at of all) {
    const side = at.conflict ? chosen[at.field] : at.mine === at.base ? 'theirs' : 'mine';
    out[at.field] = side === 'mine' ? at.mine : at.theirs;
  }
  return out;
}
