import { readFileSync } from 'node:fs';
import { expect, test } from '../fixtures';
import { company } from '../stack';

test('of 501 pasted devices a dry run marks three, and the rest get their tier', async ({
  page,
  signIn,
}) => {
  test.setTimeout(120_000);
  const known = 498;
  const who = await company({ devices: known, places: 600, slots: { 1: 600 } });
  const id = (number: number) => `DEV-${String(number).padStart(3, '0')}`;
  const ids = Array.from({ length: 501 }, (_, index) => id(index + 1));
  await signIn(who, '/devices/assign');
  await page
    .getByLabel('Device ids, one a line')
    .fill(`device_id\n${ids.join('\n')}\n${ids[0]}\nnot an id\n`);
  await expect(page.getByText('501 devices, 2 lines left out:')).toBeVisible();
  await expect(page.getByText('is there twice')).toBeVisible();
  await page.getByLabel('Tier', { exact: true }).selectOption({ label: 'Basic' });
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  await expect(page.getByRole('button', { name: `Apply to ${known}` })).toBeVisible();
  for (const unknown of ['DEV-499', 'DEV-500', 'DEV-501']) {
    await expect(page.getByRole('cell', { name: unknown })).toBeVisible();
  }
  await page.getByRole('button', { name: 'Apply to' }).click();
  await expect(page.getByRole('heading', { name: 'Result' })).toBeVisible();
  await expect(page.locator('dd').first()).toHaveText(String(known));
  const file = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Result as CSV' }).click();
  const text = readFileSync(await (await file).path(), 'utf8');
  expect(text.trim().split('\r\n')).toHaveLength(502);
  expect(text).toContain('DEV-498,assigned');
  expect(text).toContain('DEV-499,refused,device_not_found');

  await page.goto('/devices?tier_id=1');
  await expect(page.getByText('498 of 600')).toBeVisible();
  const list = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Export CSV' }).click();
  const lines = readFileSync(await (await list).path(), 'utf8')
    .trim()
    .split('\r\n');
  expect(lines, 'all pages, and the head').toHaveLength(known + 1);
});
