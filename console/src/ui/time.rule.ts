/** Times of the API (`…Z`) for people. They are UTC and say so, unless the reader chose otherwise. */

export type Zone = 'utc' | 'local';

const DAY = 86_400_000;

function parts(zone: Zone): Intl.DateTimeFormatOptions {
  return zone === 'utc' ? { timeZone: 'UTC' } : {};
}

/** `31 Dec 2026, 14:05 UTC`. */
export function instant(text: string, zone: Zone): string {
  const at = new Date(text);
  const day = new Intl.DateTimeFormat('en-GB', {
    day: 'numeric',
    month: 'short',
    year: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    ...parts(zone),
    ...(zone === 'local' ? { timeZoneName: 'short' } : {}),
  }).format(at);
  return zone === 'utc' ? `${day} UTC` : day;
}

/** `31 Dec 2026 UTC`. */
export function day(text: string, zone: Zone): string {
  const shown = new Intl.DateTimeFormat('en-GB', {
    day: 'numeric',
    month: 'short',
    year: 'numeric',
    ...parts(zone),
  }).format(new Date(text));
  return zone === 'utc' ? `${shown} UTC` : shown;
}

/**
 * The end of a term `[start, end)`: one that ends with a midnight is named by its last whole day,
 * any other by its instant.
 */
export function until(end: string, zone: Zone): string {
  const at = Date.parse(end);
  if (at % DAY !== 0 || zone === 'local') return instant(end, zone);
  return `${day(new Date(at - DAY).toISOString(), zone)}, inclusive`;
}

/** `in 3 days`, `2 hours ago`. */
export function distance(text: string, now: number): string {
  const seconds = Math.round((Date.parse(text) - now) / 1000);
  const size = Math.abs(seconds);
  const format = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
  if (size < 60) return format.format(seconds, 'second');
  if (size < 3600) return format.format(Math.trunc(seconds / 60), 'minute');
  if (size < 86_400) return format.format(Math.trunc(seconds / 3600), 'hour');
  if (size < 86_400 * 60) return format.format(Math.trunc(seconds / 86_400), 'day');
  return format.format(Math.trunc(seconds / (86_400 * 30)), 'month');
}
