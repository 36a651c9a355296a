import { useMutation, useQuery } from '@tanstack/react-query';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useRef, useState } from 'react';
import { api, Intention, type Schemas, take } from '../api/client';
import { asRefusal } from '../api/problem';
import { limitName, limitText } from '../home/limits';
import { Button } from '../ui/button';
import { Dialog } from '../ui/dialog';
import { Choice } from '../ui/layout';
import { money } from '../ui/money';
import { Blank, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import './billing.css';
import { live } from './family.rule';
import { billingConfig, billingStatus } from './queries';

type Interval = Schemas['Interval'];
type Plan = Schemas['PlanOffer'];

/** The plans side by side, by the month or by the year, and the way to buy one. */
export function PlansPage() {
  const search = useSearch({ from: '/customer/billing/plans' });
  const interval: Interval = search.interval ?? 'month';
  const navigate = useNavigate();
  const config = useQuery(billingConfig);
  const status = useQuery(billingStatus);
  const intention = useRef(new Intention());
  const [twice, setTwice] = useState<Plan | null>(null);
  const mains = status.data?.subscriptions.filter(
    (one) => one.subscription_type === 'MAIN' && live(one.effective_status),
  );
  const currency = mains?.find((one) => one.currency)?.currency ?? undefined;
  const buy = useMutation({
    mutationFn: async ({ plan, additional }: { plan: Plan; additional: boolean }) => {
      const body = {
        plan_id: plan.plan_id,
        interval,
        additional,
        success_url: `${location.origin}/billing/return?session_id={CHECKOUT_SESSION_ID}`,
        cancel_url: location.href,
      };
      const opened = await take(
        api.POST('/api/v1/customer/billing/checkout', {
          params: { header: intention.current.header(body) },
          body,
        }),
      );
      intention.current.done();
      location.assign(opened.url);
      return opened;
    },
    onError: (error, { plan }) => {
      if (asRefusal(error).code === 'already_subscribed') setTwice(plan);
    },
  });
  const asked = buy.isError && asRefusal(buy.error).code === 'already_subscribed';
  return (
    <Page
      title="Plans"
      lead="Prices are before tax. You pay on Stripe’s page and can cancel at any time."
      back={{ to: { to: '/billing' }, label: 'Billing' }}
      actions={
        <Choice
          legend="Paid by"
          value={interval}
          onChange={(chosen) =>
            void navigate({
              to: '/billing/plans',
              search: chosen === 'year' ? { interval: 'year' } : {},
              replace: true,
            })
          }
          options={[
            ['month', 'Monthly'],
            ['year', 'Yearly'],
          ]}
        />
      }
    >
      {config.isPending ? <Skeleton height={320} /> : null}
      {config.isError ? (
        <Problem
          error={config.error}
          tried="The plans could not be read"
          retry={() => void config.refetch()}
        />
      ) : null}
      {buy.isError && !asked ? (
        <Problem error={buy.error} tried="The checkout did not open" />
      ) : null}
      {config.data?.plans.length === 0 ? (
        <Blank title="No plan is on sale now">Ask support for an offer.</Blank>
      ) : null}
      <div className="plans">
        {config.data?.plans.map((plan) => (
          <PlanCard
            key={plan.plan_id}
            plan={plan}
            interval={interval}
            currency={currency ?? plan.currency}
            present={mains?.some((one) => one.plan_id === plan.plan_id) ?? false}
            busy={buy.isPending && buy.variables?.plan === plan}
            onBuy={() => buy.mutate({ plan, additional: false })}
          />
        ))}
      </div>
      {twice ? (
        <Dialog title={`Buy ${twice.name} in addition?`} onClose={() => setTwice(null)}>
          <p>{asRefusal(buy.error).message}</p>
          <p className="quiet">
            A second subscription is charged beside the first one, and devices are on one or the
            other. To replace your plan, use “Change plan” on the billing page.
          </p>
          <div className="row ends">
            <Button onClick={() => setTwice(null)}>Keep what I have</Button>
            <Button
              look="primary"
              onClick={() => {
                setTwice(null);
                buy.mutate({ plan: twice, additional: true });
              }}
            >
              Buy a second one
            </Button>
          </div>
        </Dialog>
      ) : null}
    </Page>
  );
}

interface PlanCardProps {
  plan: Plan;
  interval: Interval;
  currency: string;
  present: boolean;
  busy: boolean;
  onBuy: () => void;
}

function PlanCard({ plan, interval, currency, present, busy, onBuy }: PlanCardProps) {
  const sold = interval === 'year' ? plan.sold_annually : plan.sold_monthly;
  const price = plan.prices.find((one) => one.interval === interval && one.currency === currency);
  const cents = price?.cents ?? null;
  return (
    <section className={present ? 'card plan present' : 'card plan'} aria-label={plan.name}>
      <div className="row ends">
        <h2>{plan.name}</h2>
        {present ? <span className="badge info">Your plan</span> : null}
      </div>
      <div>
        {sold && cents !== null ? (
          <p className="price">
            {money(cents, currency)} <span className="quiet">a {interval}</span>
          </p>
        ) : (
          <p className="quiet">{`Not sold by the ${interval}`}</p>
        )}
        <p className="quiet">{plan.description}</p>
      </div>
      <ul>
        <li>
          <span>Devices</span>
          <b className="number">{plan.device_limit.toLocaleString('en')}</b>
        </li>
        {plan.tiers.map((tier) => (
          <li key={tier.tier_id}>
            <span>{tier.display_name} slots</span>
            <b className="number">{tier.slot_limit.toLocaleString('en')}</b>
          </li>
        ))}
        {Object.keys(plan.limits)
          .sort()
          .map((name) => (
            <li key={name}>
              <span>{limitName(name)}</span>
              <b className="number">{limitText(plan.limits[name] ?? null)}</b>
            </li>
          ))}
      </ul>
      <Button
        look={present ? 'plain' : 'primary'}
        busy={busy}
        because={sold && cents !== null ? null : `This plan is not sold by the ${interval}`}
        onClick={onBuy}
      >
        {present ? `Buy ${plan.name} again` : `Buy ${plan.name}`}
      </Button>
    </section>
  );
}
