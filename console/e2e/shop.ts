/** Stripe's simulator, as a payer sees it, and the mails of the stack. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, type Page } from '@playwright/test';
import { stack } from './stack';

/** A checkout of the marketing site, which knows no tenant yet; the address of its payment page. */
export async function marketingCheckout(email: string, name: string): Promise<string> {
  const form = {
    mode: 'subscription',
    'line_items[0][price]': 'price_pro_month',
    'line_items[0][quantity]': '1',
    success_url: `${stack('CONSOLE_URL')}/signed-out`,
    cancel_url: `${stack('CONSOLE_URL')}/signed-out`,
    'metadata[plan_id]': 'pro',
    'metadata[company_name]': name,
    'metadata[admin_email]': email,
    'metadata[admin_first_name]': 'Jane',
    'metadata[admin_last_name]': 'Doe',
  };
  const answer = await fetch(`${stack('STRIPE_API_BASE')}/v1/checkout/sessions`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${stack('STRIPE_SECRET_KEY')}` },
    body: new URLSearchParams(form),
  });
  const session = (await answer.json()) as { url: string };
  return session.url;
}

/** Fills in the payment page and pays. */
export async function pay(page: Page, email: string) {
  await expect(page.getByRole('heading', { name: 'Checkout for' })).toBeVisible();
  await page.getByLabel('email').fill(email);
  await page.getByLabel('country').fill('US');
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
}

/** The link in the welcome mail to this address, once it has come. */
export async function mailedLink(email: string): Promise<string> {
  const folder = stack('MAIL_DIR');
  let link: string | undefined;
  await expect
    .poll(
      () => {
        for (const file of readdirSync(folder)) {
          const mail = readFileSync(join(folder, file), 'utf8');
          if (!mail.includes(email)) continue;
          link = find(mail);
          if (link) return true;
        }
        return false;
      },
      { timeout: 45_000, message: `a welcome mail to ${email}` },
    )
    .toBe(true);
  return link ?? '';
}

function find(mail: string): string | undefined {
  const bodies = [mail, decoded(mail)];
  for (const body of bodies) {
    const found = body.match(/http:\/\/127\.0\.0\.1:\d+\/realms\/\S+?action-token\?\S+/);
    if (found) return found[0].replace(/["<>]+.*$/, '').replaceAll('&amp;', '&');
  }
  return undefined;
}

/** Quoted-printable, in which a line is broken by `=`. */
function decoded(mail: string): string {
  return mail
    .replace(/=\r?\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
