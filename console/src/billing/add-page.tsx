import { keepPreviousData, useMutation, useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { api, Intention, take } from '../api/client';
import { ButtonLink } from '../ui/button';
import { Select } from '../ui/field';
import { money } from '../ui/money';
import { Blank, Notice, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import './billing.css';
import { extendable, planName } from './family.rule';
import { billingStatus, type Order, offeredTiers, type Quote, quote } from './queries';
import { QuoteCard } from './quote-card';
import { Stepper } from './stepper';

const DEBOUNCE = 300;

/** Buys slots for a MAIN, at a price that is calculated while the order is put together. */
export function AddPage() {
  const search = useSearch({ from: '/customer/billing/add' });
  const navigate = useNavigate();
  const status = useQuery(billingStatus);
  const tiers = useQuery(offeredTiers);
  const mains = extendable(status.data?.subscriptions ?? []);
  const parent = mains.find((one) => one.subscription_id === search.parent) ?? mains[0];
  const order = useDebounced<Order>({
    parent_subscription_id: parent?.subscription_id ?? '',
    additions: Object.entries(search).flatMap(([key, count]) =>
      key.startsWith('tier.')
        ? [{ tier_id: Number(key.slice('tier.'.length)), additional_slots: Number(count) }]
        : [],
    ),
  });
  const price = useQuery({ ...quote(order), placeholderData: keepPreviousData });
  const pay = usePayment(order, price.data);

  const set = (tier: number, count: number) => {
    const { [`tier.${tier}` as const]: _, ...rest } = search;
    void navigate({
      to: '/billing/add',
      search: { ...rest, ...(count > 0 ? { [`tier.${tier}`]: count } : {}) },
      replace: true,
    });
  };

  const interval = price.data?.interval;
  return (
    <Page
      title="Add slots"
      lead="Each slot gives one device a tier until the term of your plan ends."
      back={{ to: { to: '/billing' }, label: 'Billing' }}
    >
      {status.isPending || tiers.isPending ? <Skeleton height={280} /> : null}
      {status.isError || tiers.isError ? (
        <Problem
          error={status.error ?? tiers.error}
          tried="Your plan and the tiers could not be read"
          retry={() => {
            void status.refetch();
            void tiers.refetch();
          }}
        />
      ) : null}
      {status.data && mains.length === 0 ? (
        <Blank
          title="There is no plan to add slots to"
          actions={
            <ButtonLink look="primary" to="/billing/plans">
              Compare plans
            </ButtonLink>
          }
        >
          Slots are sold for a main subscription that is paid.
        </Blank>
      ) : null}
      {parent && tiers.data ? (
        <div className="two">
          <section className="card stack tight" aria-labelledby="slots">
            <h2 id="slots">Slots</h2>
            {mains.length > 1 ? (
              <Select
                name="parent"
                label="For which subscription?"
                value={parent.subscription_id}
                onChange={(id) =>
                  void navigate({
                    to: '/billing/add',
                    search: { ...search, parent: id },
                    replace: true,
                  })
                }
                options={mains.map((one) => ({
                  value: one.subscription_id,
                  label: `${planName(one.plan_id)} · ${one.subscription_id}`,
                }))}
              />
            ) : (
              <p className="quiet">
                For {planName(parent.plan_id)}{' '}
                <span className="mono small">{parent.subscription_id}</span>
              </p>
            )}
            {tiers.data.map((tier) => (
              <Stepper
                key={tier.tier_id}
                tier={tier}
                interval={interval}
                currency={parent.currency ?? tier.currency}
                have={parent.allocations.find((at) => at.tier_id === tier.tier_id)}
                count={search[`tier.${tier.tier_id}`] ?? 0}
                onChange={(count) => set(tier.tier_id, count)}
              />
            ))}
          </section>
          <div className="stack">
            {price.isError ? (
              <Problem
                error={price.error}
                tried="These slots cannot be bought as they are"
                retry={() => void price.refetch()}
              />
            ) : (
              <QuoteCard
                quote={order.additions.length > 0 ? price.data : undefined}
                renews={parent.stripe_managed}
                loading={price.isFetching}
                paying={pay.isPending}
                onPay={() => pay.mutate()}
              />
            )}
            {pay.changed ? (
              <Notice tone="warn" title="The price has changed">
                {`It is ${money(pay.changed.amount_cents, pay.changed.currency)} now. Nothing was charged: press Pay if you agree.`}
              </Notice>
            ) : null}
            {pay.isError ? <Problem error={pay.error} tried="The checkout did not open" /> : null}
          </div>
        </div>
      ) : null}
    </Page>
  );
}

/** Opens the checkout; leaves for it only at the price that was shown. */
function usePayment(order: Order, shown: Quote | undefined) {
  const intention = useRef(new Intention());
  const [changed, setChanged] = useState<Quote | null>(null);
  const mutation = useMutation({
    mutationFn: async () => {
      const body = {
        ...order,
        success_url: `${location.origin}/billing/return?of=slots&session_id={CHECKOUT_SESSION_ID}`,
        cancel_url: location.href,
      };
      const ordered = await take(
        api.POST('/api/v1/customer/billing/addon-checkout', {
          params: { header: intention.current.header(body) },
          body,
        }),
      );
      // The order is kept under its key, so what is shown now is what is charged.
      const agreed = (changed ?? shown)?.amount_cents === ordered.amount_cents;
      if (agreed && ordered.url) location.assign(ordered.url);
      else setChanged(ordered);
    },
  });
  return { ...mutation, changed };
}

/** The value once it has stayed the same for a moment. */
function useDebounced<T>(value: T): T {
  const text = JSON.stringify(value);
  const [kept, setKept] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setKept(text), DEBOUNCE);
    return () => clearTimeout(timer);
  }, [text]);
  return JSON.parse(kept) as T;
}
