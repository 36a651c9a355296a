/** The pictures of docs/console.md: `cargo xtask console screenshots`. */
import { statSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { logIn } from './fixtures';
import { call, company, tokenOf } from './stack';

const to = (name: string) => new URL(`../../docs/pictures/console-${name}.jpg`, import.meta.url);

test('pictures', async ({ browser }) => {
  test.setTimeout(120_000);
  const who = await company({ devices: 12, slots: { 1: 12, 2: 5, 3: 2 }, places: 20 });
  const token = await tokenOf(who);
  for (const [tier, devices] of [
    [1, ['DEV-001', 'DEV-002', 'DEV-003', 'DEV-007']],
    [2, ['DEV-004', 'DEV-005', 'DEV-008', 'DEV-009']],
    [3, ['DEV-006', 'DEV-010']],
  ] as const) {
    const body = { device_ids: devices, tier_id: tier };
    await call(token, 'POST', '/customer/devices/tier-assignments', body);
  }
  const look = async (colorScheme: 'light' | 'dark', width: number, height: number) => {
    const page = await browser.newPage({ colorScheme, viewport: { width, height } });
    await page.goto('/');
    await logIn(page, who);
    const take = async (path: string, name: string) => {
      await page.goto(path);
      await page.locator('h1').waitFor();
      await page.waitForLoadState('networkidle');
      await page.screenshot({ path: to(name).pathname, type: 'jpeg', quality: 75 });
      expect(statSync(to(name)).size, `${name}: small enough for a repository`).toBeLessThan(
        60_000,
      );
    };
    return { page, take };
  };
  const wide = await look('light', 940, 560);
  await wide.take('/', 'home');
  await wide.take('/billing/add?tier.2=10&tier.3=2', 'add');
  await wide.page.close();
  const narrow = await look('dark', 390, 700);
  await narrow.take('/devices', 'devices-dark');
  await narrow.page.close();
});
