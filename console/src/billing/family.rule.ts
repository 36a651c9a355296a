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
}

/** A plan's id as a name: the id is all that a subscription says. */
export const planName = (id: string | null | undefined, other = 'Your plan') =>
  id ? id.charAt(0).toUpperCase() + id.slice(1).replaceAll(/[-_]/g, ' ') : other;

/** What happens next to a subscription, as far as its state says it. */
export function nextOf(one: Subscription): Next {
  const plan = planName(one.plan_id);
  const pending = one.payment_pending_until;
  switch (one.effective_status) {
    case 'SUSPENDED':
      return {
        at: null,
        end: false,
        title: `${plan} is suspended`,
        detail: 'Devices and slots stay as they are. Access comes back with the payment.',
        tone: 'bad',
      };
    case 'GRACE':
      if (pending) {
        return {
          at: pending,
          end: false,
          title: 'Your payment is under way',
          detail: 'You keep access. If it does not arrive until then, the payment is overdue.',
          tone: 'info',
        };
      }
      return {
        at: one.grace_end ?? null,
        end: false,
        title: `${plan} loses its access`,
        detail: 'The payment is overdue. Pay before then, and nothing changes.',
        tone: 'warn',
      };
    case 'TRIAL':
      return {
        at: one.term_end,
        end: true,
        title: 'Your trial ends',
        detail: 'Buy a plan before then to keep your devices and their tiers.',
        tone: 'info',
      };
    case 'EXPIRED':
      return {
        at: one.term_end,
        end: true,
        title: `${plan} has ended`,
        detail: 'Buy a plan to use your devices again.',
        tone: 'bad',
      };
    default:
      return one.stripe_managed
        ? {
            at: one.term_end,
            end: true,
            title: `${plan} is renewed`,
            detail: 'Stripe charges the saved payment method, unless you cancelled in the portal.',
            tone: 'good',
          }
        : {
            at: one.term_end,
            end: true,
            title: `The paid term of ${plan} ends`,
            detail: 'You pay by invoice: a new term begins with the next payment.',
            tone: 'info',
          };
  }
}
