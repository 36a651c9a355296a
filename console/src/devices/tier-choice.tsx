import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, type Schemas, take } from '../api/client';
import { entitlements, offeredTiers } from '../billing/queries';
import { Button } from '../ui/button';
import { Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { say } from '../ui/toast';
import type { Device } from './queries';

/** The tier of a device: one of those on offer, or none; each says how many slots are free. */
export function TierChoice({ device }: { device: Device }) {
  const tiers = useQuery(offeredTiers);
  const use = useQuery(entitlements);
  const client = useQueryClient();
  const present = device.tier_id ?? null;
  const [choice, setChoice] = useState<number | null>(present);
  const params = { path: { device_id: device.device_id } };
  const save = useMutation({
    mutationFn: () =>
      choice === null
        ? take(api.DELETE('/api/v1/customer/devices/{device_id}/tier', { params }))
        : take(
            api.PUT('/api/v1/customer/devices/{device_id}/tier', {
              params,
              body: { tier_id: choice },
            }),
          ),
    onSuccess: (now) => {
      say(now.tier_name ? `The device has ${now.tier_name}.` : 'The device has no tier.');
      void client.invalidateQueries({ queryKey: ['devices'] });
      void client.invalidateQueries({ queryKey: ['entitlements'] });
      void client.invalidateQueries({ queryKey: ['billing', 'status'] });
    },
  });
  const family = use.data?.families.find((one) =>
    one.counting.some((member) => member === device.subscription_id),
  );
  const free = (tier: Schemas['OfferedTier']) =>
    family?.tiers.find((one) => one.tier_id === tier.tier_id);
  return (
    <section className="card stack tight" aria-labelledby="tier">
      <h2 id="tier">Tier</h2>
      {save.isError ? <Problem error={save.error} tried="The tier was not changed" /> : null}
      {tiers.isError ? (
        <Problem
          error={tiers.error}
          tried="The tiers could not be read"
          retry={() => void tiers.refetch()}
        />
      ) : null}
      {tiers.isPending ? <Skeleton height={180} /> : null}
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <fieldset className="choices">
          <legend className="hidden">Tier of this device</legend>
          {tiers.data?.map((tier) => (
            <label key={tier.tier_id}>
              <input
                type="radio"
                name="tier"
                checked={choice === tier.tier_id}
                onChange={() => setChoice(tier.tier_id)}
              />
              <div>
                <b>{tier.display_name}</b>
                {tier.tier_id === present ? <span className="quiet"> · now</span> : null}
                <p className="small quiet">{tier.description}</p>
              </div>
              <span className="small quiet number">
                {family && !family.live ? 'no access now' : slots(free(tier))}
              </span>
            </label>
          ))}
          <label>
            <input
              type="radio"
              name="tier"
              checked={choice === null}
              onChange={() => setChoice(null)}
            />
            <div>
              <b>No tier</b>
              <p className="small quiet">The device keeps its place and frees its slot.</p>
            </div>
          </label>
        </fieldset>
        <div className="row">
          <Button
            type="submit"
            look="primary"
            busy={save.isPending}
            because={choice === present ? 'This is its tier now' : null}
          >
            Save tier
          </Button>
        </div>
      </form>
    </section>
  );
}

function slots(use: Schemas['TierUse'] | undefined): string {
  if (!use || use.limit === 0) return 'not in your plan';
  if (use.remaining === 0) return `none of ${use.limit} free`;
  return `${use.remaining} of ${use.limit} free`;
}
