import { queryOptions } from '@tanstack/react-query';
import { api, type Schemas, take } from '../api/client';

export type Subscription = Schemas['BillingSubscription'];
export type Quote = Schemas['AddonCheckout'];
export type Order = Pick<Schemas['NewAddonCheckout'], 'parent_subscription_id' | 'additions'>;

export const billingStatus = queryOptions({
  queryKey: ['billing', 'status'],
  queryFn: ({ signal }) => take(api.GET('/api/v1/customer/billing/status', { signal })),
});

/** What will happen by itself, the soonest first. */
export const upcoming = queryOptions({
  queryKey: ['billing', 'upcoming'],
  queryFn: async ({ signal }) => {
    const answer = await take(
      api.GET('/api/v1/customer/billing/upcoming', { params: { query: { limit: 100 } }, signal }),
    );
    return answer.upcoming;
  },
});

export const billingConfig = queryOptions({
  queryKey: ['billing', 'config'],
  queryFn: ({ signal }) => take(api.GET('/api/v1/customer/billing/config', { signal })),
  staleTime: 60_000,
});

export const entitlements = queryOptions({
  queryKey: ['entitlements'],
  queryFn: ({ signal }) => take(api.GET('/api/v1/customer/entitlements', { signal })),
});

/** The tiers on offer: all of them, for choices. */
export const offeredTiers = queryOptions({
  queryKey: ['device-tiers'],
  queryFn: async ({ signal }) => {
    const answer = await take(
      api.GET('/api/v1/customer/device-tiers', { params: { query: { limit: 500 } }, signal }),
    );
    return answer.tiers;
  },
  staleTime: 60_000,
});

/** What an order would cost now; nothing is ordered. */
export const quote = (order: Order) =>
  queryOptions({
    queryKey: ['billing', 'quote', order],
    queryFn: ({ signal }) =>
      take(
        api.POST('/api/v1/customer/billing/addon-checkout', {
          params: { query: { dry_run: true } },
          body: order,
          signal,
        }),
      ),
    enabled: order.additions.length > 0 && order.parent_subscription_id !== '',
    staleTime: 0,
  });

/** Opens Stripe's billing portal in this tab; it leads back to Billing. */
export async function openPortal(): Promise<void> {
  const portal = await take(
    api.POST('/api/v1/customer/billing/portal', {
      body: { return_url: `${location.origin}/billing` },
    }),
  );
  location.assign(portal.url);
}
