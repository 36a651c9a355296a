import { expect, test } from '../fixtures';
import { company } from '../stack';

for (const timezoneId of ['Pacific/Auckland', 'America/St_Johns']) {
  test.describe(timezoneId, () => {
    test.use({ timezoneId });

    test('filters survive reload, back and a pasted link, and times are UTC', async ({
      page,
      signIn,
    }) => {
      const who = await company({ devices: 3 });
      await signIn(who, '/devices/DEV-001');
      await page.getByRole('radio', { name: /Basic/ }).check();
      await page.getByRole('button', { name: 'Save tier' }).click();
      const registered = page.locator('dl time').last();
      const instant = new Date((await registered.getAttribute('datetime')) ?? '');
      const day = String(instant.getUTCDate());
      await expect(registered).toHaveText(new RegExp(`^${day} .* UTC$`));

      await page.getByRole('link', { name: 'Devices' }).first().click();
      await expect(page.getByRole('row')).toHaveCount(4);
      await page.getByLabel('Tier').selectOption({ label: 'Basic' });
      await expect(page.getByRole('row')).toHaveCount(2);
      await expect(page).toHaveURL(/tier_id=1/);
      await page.reload();
      await expect(page.getByLabel('Tier')).toHaveValue('1');
      await expect(page.getByRole('row')).toHaveCount(2);
      await page.getByLabel('Tier').selectOption({ label: 'Premium' });
      await expect(page.getByText('No device with these filters')).toBeVisible();
      await page.goBack();
      await expect(page.getByRole('row')).toHaveCount(2);
      const link = page.url();
      await page.goto('/billing');
      await expect(page.locator('h1')).toBeVisible();
      await page.goto(link);
      await expect(page.getByRole('row')).toHaveCount(2);
      await page.getByRole('button', { name: 'Clear' }).click();
      await expect(page.getByRole('row')).toHaveCount(4);
    });
  });
}
