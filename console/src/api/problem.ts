/** A refusal of the API, of API Gateway or of the network, and what a person does about it. */

import type { components } from './schema.gen';

export interface FieldError {
  field: string;
  message: string;
}

/** The room of a 402: what was paid for. */
export interface Room {
  limit: number;
  used: number;
  remaining: number;
}

export class Refusal extends Error {
  override readonly name = 'Refusal';
  constructor(
    /** The HTTP status; 0 where no answer came. */
    readonly status: number,
    /** Stable, for programs; `network` and `gateway` are the console's own. */
    readonly code: string,
    /** For people. */
    detail: string,
    readonly requestId: string | null,
    readonly errors: readonly FieldError[] = [],
    readonly room: Room | null = null,
  ) {
    super(detail);
  }

  /** Whether the same request may succeed a little later. */
  get passing(): boolean {
    return [0, 429, 502, 503, 504].includes(this.status) || this.code === 'request_in_progress';
  }
}

/** No answer came. */
export function unreachable(): Refusal {
  const detail = navigator.onLine
    ? 'The server did not answer. Nothing that you typed is lost.'
    : 'This device is offline. Nothing that you typed is lost.';
  return new Refusal(0, 'network', detail, null);
}

/** Reads both shapes of a refusal: `problem+json`, and API Gateway's `{"message"}`. */
export function refusal(response: Response, body: unknown): Refusal {
  const at = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const header = (name: string) => response.headers.get(name);
  const id = header('X-Request-Id') ?? header('apigw-requestid');
  if (typeof at.code !== 'string') {
    const said =
      typeof at.message === 'string' ? at.message : `The server answered ${response.status}.`;
    return new Refusal(response.status, 'gateway', gateway(response.status) ?? said, id);
  }
  const number = (name: string) => (typeof at[name] === 'number' ? (at[name] as number) : null);
  const [limit, used, remaining] = [number('limit'), number('used'), number('remaining')];
  const room = limit !== null && used !== null ? { limit, used, remaining: remaining ?? 0 } : null;
  return new Refusal(
    response.status,
    at.code,
    String(at.detail ?? at.title ?? ''),
    typeof at.request_id === 'string' ? at.request_id : id,
    Array.isArray(at.errors) ? (at.errors as FieldError[]) : [],
    room,
  );
}

function gateway(status: number): string | undefined {
  if (status === 429) return 'Too many requests at this moment.';
  if (status === 413) return 'That is too much for one request.';
  if (status >= 500) return 'The server did not answer in time.';
  return undefined;
}

type Code = components['schemas']['ProblemCode'] | 'network' | 'gateway';

/** What to do next, by code: the API's `detail` says what happened. */
const NEXT: Partial<Record<Code, string>> = {
  network: 'Check the connection, then try again.',
  gateway: 'Try again in a moment.',
  internal: 'Try again. If it stays, send the request id to support.',
  unavailable: 'Try again in a moment.',
  upstream: 'Stripe or the login server did not answer. Try again in a moment.',
  customer_required: 'Sign in with an account of a company.',
  no_tenant: 'Your account belongs to no company yet. Ask support to attach it.',
  tenant_deleted: 'Your company’s account was closed. Ask support if that is a mistake.',
  version_changed: 'Somebody else saved in the meantime. Compare both, then save.',
  no_fields: 'Nothing was changed, so there is nothing to save.',
  invalid: 'Correct the marked fields.',
  device_exists: 'Open the device of this id, or choose another id.',
  device_limit_reached: 'Buy a larger plan, or take a device out of use.',
  no_free_slot: 'Buy slots, or take the tier from another device.',
  tier_not_in_plan: 'Buy slots of this tier, or choose a plan that has it.',
  subscription_not_live: 'Settle the payment first: your devices and slots stay as they are.',
  no_live_subscription: 'Buy a plan first.',
  no_subscription: 'Move the device to a subscription first.',
  no_billing_account: 'Buy a plan first: that creates the billing account.',
  billing_account_gone: 'Ask support: the account at Stripe was deleted.',
  billing_email_refused: 'Correct the billing address of the company, then try again.',
  price_not_available: 'Choose another interval, or ask support.',
  stripe_refused: 'Follow what Stripe says, or ask support.',
  payment_refused: 'Use another card, or ask your bank.',
  renewal_near: 'Order again once the term was renewed.',
  subscription_held: 'Ask support: an operator holds this subscription.',
  order_expired: 'Order again: the old order is closed.',
  parent_not_main: 'Slots are sold for a main subscription only.',
  parent_not_live: 'Settle the payment of the subscription first.',
  tier_not_sold: 'Choose another tier, or ask support for a price.',
  amount_too_small: 'Add slots: Stripe takes no payment this small.',
  amount_too_large: 'Order fewer slots at once.',
  request_in_progress: 'The first request is still being done.',
  already_subscribed: 'You can buy a second subscription on purpose.',
  session_not_found: 'Open Billing to see what was bought.',
};

/** The sentence after the API's own. */
export function next(code: string): string | undefined {
  return NEXT[code as Code];
}

/** Any error as a refusal, so that a page shows one shape. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  return new Refusal(0, 'internal', error instanceof Error ? error.message : String(error), null);
}
