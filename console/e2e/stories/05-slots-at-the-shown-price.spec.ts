import { expect, test } from '../fixtures';
import { pay } from '../shop';
import { company } from '../stack';

test('a customer buys a plan and then 50 slots, and the price shown is the price charged', async ({
  page,
  signIn,
}) => {
  test.setTimeout(120_000);
  const who = await company({ bare: true });
  await signIn(who, '/billing');
  await page.getByRole('link', { name: 'Subscribe' }).click();
  await page.getByText('Yearly').click();
  await expect(page).toHaveURL(/interval=year/);
  await page.getByRole('button', { name: 'Buy Pro' }).click();
  await pay(page, who.email);
  await expect(page.getByText('Your subscription is ready')).toBeVisible({ timeout: 40_000 });

  await page.getByRole('link', { name: 'Open billing' }).click();
  await page.getByRole('link', { name: 'Add slots' }).click();
  await page.getByLabel('Standard slots to add').fill('50');
  await expect(page).toHaveURL(/tier\.2=50/);
  const button = page.getByRole('button', { name: /^Pay \$/ });
  await expect(button).toBeVisible();
  const price = ((await button.textContent()) ?? '').replace('Pay ', '').replaceAll(',', '');

  await page.reload();
  await expect(page.getByLabel('Standard slots to add')).toHaveValue('50');
  await button.click();
  await expect(page.getByText(`Total ${price}`)).toBeVisible();
  await pay(page, who.email);
  await expect(page.getByText('Your slots are ready')).toBeVisible({ timeout: 40_000 });
  await page.getByRole('link', { name: 'Open billing' }).click();
  await expect(page.getByText('50 × Standard')).toBeVisible();
});
