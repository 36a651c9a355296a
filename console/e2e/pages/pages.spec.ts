/** Every page of the route tree, in light and wide and in dark and narrow: axe, width, console. */
import { readFileSync } from 'node:fs';
import { type Page, test as plain } from '@playwright/test';
import { expect, logIn, noSideScroll, test } from '../fixtures';
import { type Company, company } from '../stack';

const AXE = readFileSync(
  new URL('../../node_modules/axe-core/axe.min.js', import.meta.url),
  'utf8',
);
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** One address for each page of `src/router.tsx`; the test below says which is missing. */
const PAGES: Record<string, string> = {
  '/': '/',
  '/billing': '/billing',
  '/billing/plans': '/billing/plans',
  '/billing/return': '/billing/return',
  '/billing/add': '/billing/add?tier.2=5',
  '/devices': '/devices',
  '/devices/new': '/devices/new',
  '/devices/assign': '/devices/assign',
  '/devices/$id': '/devices/DEV-001',
  '/settings/organization': '/settings/organization',
};

const LOOKS = [
  { name: 'light, 1280 px', colorScheme: 'light', viewport: { width: 1280, height: 800 } },
  { name: 'dark, 390 px', colorScheme: 'dark', viewport: { width: 390, height: 844 } },
] as const;

async function axe(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return await page.evaluate(async (tags) => {
    type Axe = { run: (options: unknown) => Promise<{ violations: Found[] }> };
    type Found = { id: string; nodes: { html: string; failureSummary?: string }[] };
    const found = await (window as unknown as { axe: Axe }).axe.run({
      runOnly: { type: 'tag', values: tags },
    });
    return found.violations.flatMap(({ id, nodes }) =>
      nodes.map((node) => `${id}: ${node.html} ${node.failureSummary ?? ''}`),
    );
  }, TAGS);
}

plain('the list of pages is the route tree', () => {
  const routes = readFileSync(new URL('../../src/router.tsx', import.meta.url), 'utf8');
  const paths = [...routes.matchAll(/^ {2}path: '([^']+)'/gm)].map((found) => found[1]);
  expect(Object.keys(PAGES).sort()).toEqual(paths.sort());
});

for (const look of LOOKS) {
  test.describe(look.name, () => {
    test.use({ colorScheme: look.colorScheme, viewport: look.viewport });
    let full: Company;
    let bare: Company;
    test.beforeAll(async () => {
      full = await company({ devices: 3 });
      bare = await company();
    });

    test('every page with data has no fault of axe and no side scroll', async ({ page }) => {
      test.setTimeout(120_000);
      await page.goto('/');
      await logIn(page, full);
      for (const path of Object.values(PAGES)) {
        await page.goto(path);
        await expect(page.locator('h1')).toBeVisible();
        await expect(page.locator('.skeleton')).toHaveCount(0);
        expect.soft(await axe(page), path).toEqual([]);
        await noSideScroll(page);
      }
    });

    test('empty pages, refusals and dialogs have none either', async ({ page }) => {
      test.setTimeout(120_000);
      await page.goto('/devices');
      await logIn(page, bare);
      await expect(page.getByRole('heading', { name: 'No device yet' })).toBeVisible();
      expect.soft(await axe(page), 'no device').toEqual([]);
      await page.goto('/devices/NONE');
      await expect(page.getByText('There is no such device')).toBeVisible();
      expect.soft(await axe(page), 'no such device').toEqual([]);
      await page.route('**/customer/billing/status', (route) =>
        route.fulfill({
          status: 500,
          contentType: 'application/problem+json',
          headers: { 'Access-Control-Allow-Origin': '*', 'X-Request-Id': 'abc' },
          body: JSON.stringify({ status: 500, code: 'internal', detail: 'A fault here.' }),
        }),
      );
      await page.goto('/billing');
      await expect(page.getByText('A fault here.')).toBeVisible();
      expect.soft(await axe(page), 'an error').toEqual([]);
      await noSideScroll(page);
      await page.unroute('**/customer/billing/status');
      await page.goto('/signed-out');
      expect.soft(await axe(page), 'signed out').toEqual([]);
    });

    test('a dialog has none, and gives the focus back', async ({ page }) => {
      await page.goto('/devices/DEV-001');
      await logIn(page, full);
      const open = page.getByRole('button', { name: 'Take out of use …' });
      await open.press('Enter');
      await expect(page.getByRole('dialog')).toBeVisible();
      expect.soft(await axe(page), 'dialog').toEqual([]);
      await page.keyboard.press('Escape');
      await expect(open).toBeFocused();
    });
  });
}
