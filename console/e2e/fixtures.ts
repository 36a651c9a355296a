/** What every test has: a page whose console stays clean, and a way to sign in. */
import { test as base, expect, type Page } from '@playwright/test';
import type { Login } from './stack';

export { expect };

export const test = base.extend<{ signIn: (who: Login, path?: string) => Promise<void> }>({
  page: async ({ page }, use) => {
    const said: string[] = [];
    page.on('console', (message) => {
      // A refusal that a story provokes is the browser's line, and not the console's.
      const refused = message.text().startsWith('Failed to load resource');
      if (['error', 'warning'].includes(message.type()) && !refused) said.push(message.text());
    });
    page.on('pageerror', (error) => said.push(String(error)));
    await use(page);
    expect(said, 'the browser’s console').toEqual([]);
  },
  signIn: async ({ page }, use) => {
    await use(async (who, path = '/') => {
      await page.goto(path);
      await logIn(page, who);
      await expect(page.locator('h1')).toBeVisible();
    });
  },
});

/** Fills in the log-in page of Keycloak, or of the issuer that stands in for it. */
export async function logIn(page: Page, who: Login) {
  await page.locator('#username').fill(who.email);
  const password = page.locator('#password');
  // A realm with organizations asks for the address first.
  if (!(await password.isVisible())) await page.locator('#kc-login').click();
  await password.fill(who.password);
  await page.locator('#kc-login').click();
}

/** No page is wider than its window. */
export async function noSideScroll(page: Page) {
  const over = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  expect(over, `${page.url()} scrolls sideways`).toBeLessThanOrEqual(0);
}
