/** What a company has, and what a person should see first of it. */
import type { Schemas } from '../api/client';

type Subscription = Schemas['BillingSubscription'];
type Status = Schemas['Status'];

export interface Family {
  root: Subscription;
  addons: Subscription[];
}

/** The order of hurt: what needs the customer comes first. */
const HURT: readonly Status[] = ['SUSPENDED', 'GRACE', 'TRIAL', 'ACTIVE', 'EXPIRED'];
const hurt = (status: Status) => HURT.indexOf(status);

/** The subscriptions with their ADDONs below them. An ADDON without its parent stands alone. */
export function families(all: readonly Subscription[]): Family[] {
  const ids = new Set(all.map((one) => one.subscription_id));
  const parent = (one: Subscription) => one.parent_subscription_id ?? null;
  const isRoot = (one: Subscription) => {
    const above = parent(one);
    return above === null || !ids.has(above);
  };
  return all
    .filter(isRoot)
    .map((root) => ({
      root,
      addons: all.filter((one) => !isRoot(one) && parent(one) === root.subscription_id),
    }))
    .sort((one, other) => hurt(one.root.effective_status) - hurt(other.root.effective_status));
}

export const live = (status: Status) =>
  status === 'ACTIVE' || status === 'TRIAL' || status === 'GRACE';

/** The MAINs to which slots can be added. */
export const extendable = (all: readonly Subscription[]) =>
  all.filter((one) => one.subscription_type === 'MAIN' && live(one.effective_status));

export interface Next {
  at: string | null;
  end: boolean;
  title: string;
  detail: string;
  tone: 'good' | 'warn' | 'bad' | 'info';
  /** The mails before it. */
  mails: readonly string[];
}

type Words = Pick<Next, 'title' | 'detail' | 'tone'>;
type Upcoming = Schemas['Upcoming'];

/** A plan's id as a name: the id is all that a subscription says. */
export const planName = (id: string | null | undefined, other = 'Your plan') =>
  id ? id.charAt(0).toUpperCase() + id.slice(1).replaceAll(/[-_]/g, ' ') : other;

/** What each change means to a customer. */
const CHANGES: Record<Upcoming['change'], (plan: string) => Words> = {
  renewal: (plan) => ({
    title: `${plan} is renewed`,
    detail: 'Stripe charges the saved payment method.',
    tone: 'good',
  }),
  payment: () => ({
    title: 'Your payment is under way',
    detail: 'You keep access. If the payment does not arrive until then, it is overdue.',
    tone: 'info',
  }),
  paused_renewal: (plan) => ({
    title: `${plan} goes on without a charge`,
    detail: 'Support paused the collection of payments.',
    tone: 'info',
  }),
  cancellation: (plan) => ({
    title: `${plan} ends`,
    detail: 'It was cancelled. Until then it can be resumed in the billing portal.',
    tone: 'warn',
  }),
  grace: (plan) => ({
    title: `The paid term of ${plan} ends`,
    detail: 'Without a payment for the next term you keep access for a last time.',
    tone: 'info',
  }),
  suspension: (plan) => ({
    title: `${plan} loses its access`,
    detail: 'The payment is overdue. Pay before then, and nothing changes.',
    tone: 'warn',
  }),
  expiry: (plan) => ({
    title: `${plan} ends`,
    detail: 'Buy a plan before then to keep your devices and their tiers.',
    tone: 'info',
  }),
};

/** What happens next to a subscription; `null` while nothing is known of it. */
export function nextOf(one: Subscription, forecast?: Upcoming): Next | null {
  const plan = planName(one.plan_id);
  if (one.effective_status === 'SUSPENDED') {
    return {
      at: null,
      end: false,
      title: `${plan} is suspended`,
      detail: 'Devices and slots stay as they are. Access comes back with the payment.',
      tone: 'bad',
      mails: [],
    };
  }
  if (!forecast) return null;
  return {
    at: forecast.at,
    end: forecast.change !== 'suspension',
    ...CHANGES[forecast.change](plan),
    mails: forecast.notices.map((notice) => notice.at),
  };
}
