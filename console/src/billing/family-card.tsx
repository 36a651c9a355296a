import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import { Button, ButtonLink } from '../ui/button';
import { Meter } from '../ui/meter';
import { StatusBadge, typeName } from '../ui/status';
import { Time } from '../ui/time';
import './billing.css';
import { type Family, live, nextOf, planName } from './family.rule';

interface CardProps {
  family: Family;
  forecast: Schemas['Upcoming'] | undefined;
  /** Opens the portal; `null` where the company does not pay through Stripe. */
  onPay: (() => void) | null;
}

/** A MAIN (or a trial) with the extra slots below it. */
export function FamilyCard({ family, forecast, onPay }: CardProps) {
  const { root, addons } = family;
  const next = nextOf(root, forecast);
  const isLive = live(root.effective_status);
  const headline = `family-${root.subscription_id}`;
  return (
    <section className="card stack" aria-labelledby={headline}>
      <div className="row ends">
        <div>
          <h2 id={headline}>
            {planName(root.plan_id, typeName(root.subscription_type))}
            {root.quantity > 1 ? ` × ${root.quantity}` : ''}
          </h2>
          <span className="quiet small">
            {typeName(root.subscription_type)} ·{' '}
            <span className="mono">{root.subscription_id}</span>
          </span>
        </div>
        <StatusBadge status={root.effective_status} />
      </div>
      {!next || next.tone === 'good' ? null : (
        <p className={`said ${next.tone}`}>
          <b>{next.title}</b>
          {next.at ? (
            <>
              {' '}
              · <Time at={next.at} as={next.end ? 'end' : 'instant'} />
            </>
          ) : null}
          <br />
          <span className="quiet">{next.detail}</span>
        </p>
      )}
      <div className="grid">
        <dl className="facts">
          <dt>Term began</dt>
          <dd>
            <Time at={root.term_start} as="day" />
          </dd>
          <dt>{root.stripe_managed ? 'Paid until' : 'Term until'}</dt>
          <dd>
            <Time at={root.term_end} as="end" />
          </dd>
          {root.grace_end ? (
            <>
              <dt>Access until</dt>
              <dd>
                <Time at={root.grace_end} />
              </dd>
            </>
          ) : null}
          {root.currency ? (
            <>
              <dt>Currency</dt>
              <dd>{root.currency.toUpperCase()}</dd>
            </>
          ) : null}
        </dl>
        <div className="stack tight">
          <Meter
            label="Devices"
            used={root.active_device_count + sum(addons.map((one) => one.active_device_count))}
            limit={root.device_limit + sum(addons.map((one) => one.device_limit))}
          />
          {root.allocations
            .filter((at) => at.effective_limit > 0 || at.slots_used > 0)
            .map((at) => (
              <Meter
                key={at.tier_id}
                label={`${at.display_name} slots`}
                used={at.slots_used}
                limit={at.effective_limit}
                over={at.over_limit}
              />
            ))}
        </div>
      </div>
      {addons.length > 0 ? (
        <div className="stack tight">
          <h3>Extra slots</h3>
          <ul className="addons">
            {addons.map((one) => (
              <li key={one.subscription_id} className="row ends">
                <span>
                  {one.allocations
                    .filter((at) => at.slot_limit > 0)
                    .map((at) => `${at.slot_limit} × ${at.display_name}`)
                    .join(', ') || 'No slots'}
                  <span className="quiet small">
                    {' '}
                    · until <Time at={one.term_end} as="end" />
                  </span>
                </span>
                <StatusBadge status={one.effective_status} />
              </li>
            ))}
          </ul>
        </div>
      ) : null}
      <div className="row">
        {!isLive || root.effective_status === 'GRACE' ? (
          <Button
            look="primary"
            because={onPay ? null : 'You pay by invoice: ask support'}
            onClick={() => onPay?.()}
          >
            Pay now
          </Button>
        ) : null}
        {root.subscription_type === 'MAIN' && isLive ? (
          <ButtonLink to="/billing/add" search={{ parent: root.subscription_id }}>
            Add slots
          </ButtonLink>
        ) : null}
        {root.subscription_type === 'MAIN' && isLive ? (
          <Button
            because={
              root.portal_plan_change && onPay
                ? null
                : root.stripe_managed
                  ? 'Slots are renewed with this plan, so support changes it for you'
                  : 'You pay by invoice, so support changes the plan for you'
            }
            onClick={() => onPay?.()}
          >
            Change plan
          </Button>
        ) : null}
        <Link to="/devices" search={{ subscription_id: root.subscription_id }}>
          Its devices
        </Link>
      </div>
      {root.subscription_type === 'MAIN' && isLive && !(root.portal_plan_change && onPay) ? (
        <p className="small quiet">
          {root.stripe_managed
            ? 'Extra slots are renewed together with this plan, so Stripe’s portal offers no other plan: ask support.'
            : 'This plan is paid by invoice: ask support to change it.'}
        </p>
      ) : null}
    </section>
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
