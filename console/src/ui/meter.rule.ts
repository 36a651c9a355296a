export type Tone = 'good' | 'warn' | 'bad';

/** Below 75 % is good, up to 90 % a warning, above it nearly or wholly used. */
export function use(
  used: number,
  limit: number,
  over = false,
): { tone: Tone; percent: number; word: string } {
  if (limit === 0) {
    return {
      tone: used > 0 ? 'bad' : 'good',
      percent: used > 0 ? 100 : 0,
      word: used > 0 ? 'over' : 'none included',
    };
  }
  const share = (used * 100) / limit;
  const percent = Math.min(100, share);
  if (over || used > limit) return { tone: 'bad', percent: 100, word: 'over the limit' };
  if (used === limit) return { tone: 'bad', percent, word: 'all used' };
  if (share > 90) return { tone: 'bad', percent, word: `${limit - used} left` };
  if (share >= 75) return { tone: 'warn', percent, word: `${limit - used} left` };
  return { tone: 'good', percent, word: '' };
}
