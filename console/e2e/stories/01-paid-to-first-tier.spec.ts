import { expect, logIn, test } from '../fixtures';
import { mailedLink, marketingCheckout, pay } from '../shop';
import { tag } from '../stack';

test.use({ colorScheme: 'dark', viewport: { width: 390, height: 844 } });

test('a person pays, opens the mail, sets a password, and gives the first device its tier', async ({
  page,
}) => {
  test.setTimeout(120_000);
  const email = `jane.${tag()}@acme-iot.example`;
  const password = 'a New pass word 1';
  await page.goto(await marketingCheckout(email, `Acme IoT ${tag()}`));
  await pay(page, email);

  await page.goto(await mailedLink(email));
  await page.getByRole('link', { name: /proceed/i }).click();
  await page.locator('[name=password-new]').fill(password);
  await page.locator('[name=password-confirm]').fill(password);
  await page.locator('form [type=submit]').click();
  await expect(page.getByText(/account has been updated/i)).toBeVisible();

  await page.goto('/');
  const form = page.locator('#username');
  await form.or(page.locator('h1')).first().waitFor();
  // Keycloak may have begun a session with the new password.
  if (await form.isVisible()) await logIn(page, { email, password });
  await expect(page.getByRole('heading', { name: 'First steps' })).toBeVisible();
  await page.getByRole('link', { name: 'Register your first device' }).click();
  await page.getByLabel('Device id').fill('PUMP-1');
  await page.getByLabel('Name').fill('Main pump');
  await page.getByRole('button', { name: 'Register' }).click();

  await expect(page.getByRole('heading', { level: 1, name: 'PUMP-1' })).toBeFocused();
  await page.getByRole('radio', { name: /Standard/ }).check();
  await page.getByRole('button', { name: 'Save tier' }).click();
  await expect(page.getByText('The device has Standard.')).toBeVisible();
  await page.getByLabel('Site').fill('Hall A');
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await expect(page.getByText('The device is saved.')).toBeVisible();
  await page.goto('/');
  await expect(page.getByRole('meter', { name: 'Standard slots' })).toBeVisible();
  await expect(page.getByRole('heading', { name: 'First steps' })).toHaveCount(0);
});
