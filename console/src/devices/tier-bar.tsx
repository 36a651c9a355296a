import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, type Schemas, take } from '../api/client';
import { Button } from '../ui/button';
import { Problem } from '../ui/problem';
import { say } from '../ui/toast';

interface TierBarProps {
  ids: readonly string[];
  tiers: readonly Schemas['OfferedTier'][];
  onDone: () => void;
}

/** Gives the picked devices one tier: first it says for how many that works. */
export function TierBar({ ids, tiers, onDone }: TierBarProps) {
  const [choice, setChoice] = useState('');
  const client = useQueryClient();
  const assign = useMutation({
    mutationFn: (dry: boolean) =>
      take(
        api.POST('/api/v1/customer/devices/tier-assignments', {
          params: { query: { dry_run: dry } },
          body: { device_ids: [...ids], tier_id: choice === 'none' ? null : Number(choice) },
        }),
      ),
    onSuccess: (result) => {
      if (result.dry_run) return;
      say(`${result.changed} changed, ${result.refused} refused.`);
      void client.invalidateQueries({ queryKey: ['devices'] });
      void client.invalidateQueries({ queryKey: ['entitlements'] });
      void client.invalidateQueries({ queryKey: ['billing', 'status'] });
      onDone();
    },
  });
  const preview = assign.data?.dry_run ? assign.data : null;
  const refused = preview?.results.filter((one) => one.status === 'refused') ?? [];
  return (
    <section className="card tier-bar stack tight" aria-label="The picked devices">
      <div className="row">
        <b>{ids.length === 1 ? '1 device' : `${ids.length} devices`}</b>
        <label htmlFor="bar-tier">get the tier</label>
        <select
          id="bar-tier"
          value={choice}
          onChange={(event) => {
            setChoice(event.target.value);
            assign.reset();
          }}
        >
          <option value="">Choose …</option>
          {tiers.map((tier) => (
            <option key={tier.tier_id} value={tier.tier_id}>
              {tier.display_name}
            </option>
          ))}
          <option value="none">No tier</option>
        </select>
        {preview ? (
          <Button
            look="primary"
            busy={assign.isPending}
            because={preview.changed === 0 ? 'None of them would change' : null}
            onClick={() => assign.mutate(false)}
          >
            Apply to {preview.changed}
          </Button>
        ) : (
          <Button
            look="primary"
            busy={assign.isPending}
            because={choice ? null : 'Choose a tier first'}
            onClick={() => assign.mutate(true)}
          >
            Check
          </Button>
        )}
        <Button onClick={onDone}>Cancel</Button>
      </div>
      <div role="status">
        {preview ? (
          <p>
            {preview.changed} of {ids.length} would change
            {refused.length > 0 ? `, ${refused.length} cannot:` : '.'}
          </p>
        ) : null}
        {refused.length > 0 ? (
          <ul className="refused">
            {refused.slice(0, 5).map((one) => (
              <li key={one.device_id}>
                <span className="mono">{one.device_id}</span> {one.detail}
              </li>
            ))}
            {refused.length > 5 ? <li>{`and ${refused.length - 5} more`}</li> : null}
          </ul>
        ) : null}
      </div>
      {assign.isError ? <Problem error={assign.error} tried="Nothing was changed" /> : null}
    </section>
  );
}
