import type { Schemas } from '../api/client';
import { Button } from '../ui/button';
import { money } from '../ui/money';

interface StepperProps {
  tier: Schemas['OfferedTier'];
  interval: Schemas['Interval'] | undefined;
  currency: string;
  have: Schemas['AllocationView'] | undefined;
  count: number;
  onChange: (count: number) => void;
}

/** How many slots of a tier are wanted in addition. */
export function Stepper({ tier, interval, currency, have, count, onChange }: StepperProps) {
  const prices = tier.prices.filter(
    (one) => one.currency === currency && (!interval || one.interval === interval),
  );
  const priced = prices.filter((one) => typeof one.cents === 'number');
  const sold = priced.length > 0 || count > 0;
  return (
    <div className="tier-line">
      <div>
        <h3>{tier.display_name}</h3>
        <p className="quiet small">{tier.description}</p>
        <p className="small">
          {priced.length > 0
            ? priced
                .map((one) => `${money(one.cents ?? 0, one.currency)} a ${one.interval}`)
                .join(' · ')
            : 'Not sold by the slot'}
          {have ? (
            <span className="quiet">{` · ${have.slots_used} of ${have.effective_limit} in use`}</span>
          ) : null}
        </p>
      </div>
      {sold ? (
        <div className="stepper">
          <Button
            because={count === 0 ? 'None to take away' : null}
            onClick={() => onChange(count - 1)}
          >
            <span aria-hidden="true">−</span>
            <span className="hidden">One {tier.display_name} slot less</span>
          </Button>
          <input
            type="number"
            min={0}
            max={100_000}
            aria-label={`${tier.display_name} slots to add`}
            value={count}
            onFocus={(event) => event.target.select()}
            onChange={(event) => {
              const wanted = Math.trunc(Number(event.target.value));
              onChange(Math.max(0, Math.min(100_000, wanted || 0)));
            }}
          />
          <Button onClick={() => onChange(count + 1)}>
            <span aria-hidden="true">+</span>
            <span className="hidden">One {tier.display_name} slot more</span>
          </Button>
        </div>
      ) : null}
    </div>
  );
}
