/** The pure rules of the console, without a browser. */
import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { next } from '../src/api/problem';
import { families, nextOf } from '../src/billing/family.rule';
import type { Subscription } from '../src/billing/queries';
import { parse } from '../src/devices/assign.rule';
import { csv } from '../src/ui/csv';
import { differences, merged } from '../src/ui/merge.rule';
import { use } from '../src/ui/meter.rule';
import { money } from '../src/ui/money';
import { distance, instant, until } from '../src/ui/time.rule';

test('every refusal that a customer can meet says what to do next', () => {
  const document = JSON.parse(
    readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8'),
  ) as { paths: Record<string, Record<string, { responses: Record<string, Described> }>> };
  type Described = { description?: string };
  const codes = new Set<string>();
  for (const [path, operations] of Object.entries(document.paths)) {
    // What other services call has no page.
    if (!path.includes('/customer/') || /entitlements\/(check|usage)/.test(path)) continue;
    for (const operation of Object.values(operations)) {
      for (const [status, answer] of Object.entries(operation.responses)) {
        if (status < '400' || status === '404') continue;
        for (const found of (answer.description ?? '').matchAll(/`([a-z_]+)`/g)) {
          codes.add(found[1] ?? '');
        }
      }
    }
  }
  expect(codes.size).toBeGreaterThan(20);
  const ours = ['malformed_json', 'malformed_query', 'limit', 'used', 'remaining'];
  const silent = [...codes].filter((code) => !next(code) && !ours.includes(code));
  expect(silent).toEqual([]);
});

test('a term is named by its last whole day, and by its instant where it ends within one', () => {
  expect(until('2027-01-01T00:00:00Z', 'utc')).toBe('31 Dec 2026 UTC, inclusive');
  expect(until('2027-01-01T09:30:00Z', 'utc')).toBe('1 Jan 2027, 09:30 UTC');
  expect(instant('2026-11-30T23:59:00Z', 'utc')).toBe('30 Nov 2026, 23:59 UTC');
  expect(distance('2026-12-03T00:00:00Z', Date.parse('2026-11-30T00:00:00Z'))).toBe('in 3 days');
});

test('money has the decimals of its currency', () => {
  expect(money(75616, 'usd')).toBe('$756.16');
  expect(money(5000, 'jpy')).toBe('¥5,000');
});

test('a meter is good below 75 %, a warning up to 90 %, and bad above it', () => {
  expect(use(74, 100).tone).toBe('good');
  expect(use(75, 100).tone).toBe('warn');
  expect(use(90, 100).tone).toBe('warn');
  expect(use(91, 100).tone).toBe('bad');
  expect(use(5, 4)).toMatchObject({ tone: 'bad', word: 'over the limit' });
});

test('a merge takes what one side changed, and asks where both did', () => {
  const base = { name: 'A', city: 'Lund', phone: '1' };
  const theirs = { name: 'B', city: 'Lund', phone: '2' };
  const mine = { name: 'C', city: 'Malmö', phone: '1' };
  const all = differences(base, theirs, mine);
  expect(all.filter((at) => at.conflict).map((at) => at.field)).toEqual(['name']);
  expect(merged(theirs, all, { name: 'mine' })).toEqual({ name: 'C', city: 'Malmö', phone: '2' });
});

test('a pasted list gives each id once, and says which lines have none', () => {
  const { ids, faults } = parse('device_id,site\r\nA-1,x\n\n"B:2";y\nA-1\nno good\n');
  expect(ids).toEqual(['A-1', 'B:2']);
  expect(faults.map(({ line, fault }) => [line, fault])).toEqual([
    [5, 'double'],
    [6, 'ill-formed'],
  ]);
});

test('a cell of a CSV file is text: quoted, and no formula', () => {
  expect(csv([['a,b', '=1+1', 'say "x"']])).toBe(`"a,b",'=1+1,"say ""x"""\r\n`);
});

test('a suspended subscription comes first, with what to do', () => {
  const one = (id: string, status: Subscription['status'], parent: string | null = null) =>
    ({
      subscription_id: id,
      effective_status: status,
      parent_subscription_id: parent,
      plan_id: 'pro',
    }) as Subscription;
  const found = families([one('M1', 'ACTIVE'), one('A1', 'ACTIVE', 'M1'), one('M2', 'SUSPENDED')]);
  expect(found.map(({ root }) => root.subscription_id)).toEqual(['M2', 'M1']);
  expect(found[1]?.addons.map((addon) => addon.subscription_id)).toEqual(['A1']);
  expect(nextOf(one('M2', 'SUSPENDED'))?.tone).toBe('bad');
});
