import { expect, noSideScroll, test } from '../fixtures';
import { company } from '../stack';

test.use({ viewport: { width: 390, height: 844 } });

test('a customer without a free slot is led to buy one or to free one', async ({
  page,
  signIn,
}) => {
  await signIn(await company({ devices: 2, slots: { 3: 1 } }), '/devices/DEV-001');
  const premium = page.getByRole('radio', { name: /Premium/ });
  await premium.check();
  await page.getByRole('button', { name: 'Save tier' }).click();
  await expect(page.getByText('The device has Premium.')).toBeVisible();

  await page.goto('/devices/DEV-002');
  await premium.check();
  await expect(page.getByText('none of 1 free')).toBeVisible();
  await page.getByRole('button', { name: 'Save tier' }).click();
  const refusal = page.getByRole('alert');
  await expect(refusal).toContainText('No available Premium slots. Used: 1/1.');
  await expect(refusal.getByRole('meter')).toHaveAttribute('aria-valuetext', /1 of 1/);
  await noSideScroll(page);
  await refusal.getByRole('link', { name: 'Free a slot' }).click();
  await expect(page.getByRole('link', { name: 'DEV-001' })).toBeVisible();
  await page.goBack();
  await premium.check();
  await page.getByRole('button', { name: 'Save tier' }).click();
  await page.getByRole('alert').getByRole('link', { name: 'Buy slots' }).click();
  await expect(page.getByRole('heading', { level: 1, name: 'Add slots' })).toBeVisible();
});
