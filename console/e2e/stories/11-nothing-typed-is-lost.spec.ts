import { expect, test } from '../fixtures';
import { call, company, tokenOf } from '../stack';

test('the token ends in the middle of a form: one redirect, and nothing typed is lost', async ({
  page,
  signIn,
}) => {
  await signIn(await company(), '/settings/organization');
  await page.getByLabel('Legal name').fill('Northwind Sensors AB');
  await page.getByLabel('City').fill('Lund');
  // The next call is refused, and so is the refresh.
  let ended = false;
  await page.route('**/api/v1/customer/organization', async (route) => {
    if (ended) return await route.continue();
    ended = true;
    await route.fulfill({
      status: 401,
      headers: { 'Access-Control-Allow-Origin': '*' },
      body: '{}',
    });
  });
  await page.route(
    '**/protocol/openid-connect/token',
    (route) =>
      route.fulfill({
        status: 400,
        contentType: 'application/json',
        headers: { 'Access-Control-Allow-Origin': '*' },
        body: '{"error":"invalid_grant"}',
      }),
    { times: 1 },
  );
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('Your unsaved changes are back')).toBeVisible();
  await expect(page).toHaveURL(/settings\/organization$/);
  await expect(page.getByLabel('Legal name')).toHaveValue('Northwind Sensors AB');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('The profile is saved.')).toBeVisible();
  await page.reload();
  await expect(page.getByLabel('City')).toHaveValue('Lund');
});

test('a 503 with Retry-After in a save is waited for, told, and saved once', async ({
  page,
  signIn,
}) => {
  const who = await company();
  await signIn(who, '/devices/new');
  await page.getByLabel('Device id').fill('PUMP-9');
  const keys: (string | undefined)[] = [];
  await page.route('**/api/v1/customer/devices', async (route) => {
    if (route.request().method() !== 'POST') return await route.continue();
    keys.push(route.request().headers()['idempotency-key']);
    if (keys.length > 1) return await route.continue();
    await route.fulfill({
      status: 503,
      contentType: 'application/problem+json',
      headers: {
        'Access-Control-Allow-Origin': '*',
        'Access-Control-Expose-Headers': 'retry-after',
        'Retry-After': '2',
      },
      body: JSON.stringify({ status: 503, code: 'unavailable', detail: 'Try again.' }),
    });
  });
  await page.getByRole('button', { name: 'Register' }).click();
  await expect(page.getByText(/The server is busy. Trying again/)).toBeVisible();
  await expect(page.getByRole('heading', { level: 1, name: 'PUMP-9' })).toBeVisible();
  expect(keys).toHaveLength(2);
  expect(keys[0]).toBe(keys[1]);
});

test('of two editors the second merges: both changes are kept, a conflict wants a choice', async ({
  page,
  signIn,
}) => {
  const who = await company();
  await signIn(who, '/settings/organization');
  await page.getByLabel('City').fill('Lund');
  await page.getByLabel('Industry').fill('Agriculture');
  const other = { phone: '+46 1 23', industry: 'Logistics' };
  await call(await tokenOf(who), 'PUT', '/customer/organization', other);
  await page.getByRole('button', { name: 'Save' }).click();
  const dialog = page.getByRole('dialog', { name: 'Somebody else saved' });
  await expect(dialog).toBeVisible();
  const save = dialog.getByRole('button', { name: 'Save both changes' });
  await expect(save).toHaveAttribute('aria-disabled', 'true');
  await dialog.getByRole('radio', { name: 'Logistics' }).check();
  await save.click();
  await expect(page.getByText('The profile is saved.')).toBeVisible();
  await page.reload();
  await expect(page.getByLabel('City')).toHaveValue('Lund');
  await expect(page.getByLabel('Phone')).toHaveValue('+46 1 23');
  await expect(page.getByLabel('Industry')).toHaveValue('Logistics');
});
