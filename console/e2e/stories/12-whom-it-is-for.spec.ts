import { expect, test } from '../fixtures';
import { company, operate, tag, user } from '../stack';

test('who is no customer, or of no company, is told so and can use another account', async ({
  page,
  signIn,
}) => {
  await signIn(await user(`op-${tag()}@pulse.example`, 'operator'), '/billing');
  await expect(page.getByRole('heading', { name: 'This console is for customers' })).toBeVisible();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByRole('heading', { name: 'You are signed out' })).toBeVisible();

  const gone = await company({ bare: true });
  await operate('DELETE', `/operator/tenants/${gone.tenant}`);
  await signIn(gone, '/devices');
  await expect(
    page.getByRole('heading', { name: 'The account of Northwind Sensors was closed' }),
  ).toBeVisible();
});
