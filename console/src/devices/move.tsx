import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, take } from '../api/client';
import { live, planName } from '../billing/family.rule';
import { billingStatus } from '../billing/queries';
import { Button } from '../ui/button';
import { Select } from '../ui/field';
import { Problem } from '../ui/problem';
import { say } from '../ui/toast';
import type { Device } from './queries';

/** Moves a device to another subscription; its place and its slot go with it. */
export function Move({ device }: { device: Device }) {
  const status = useQuery(billingStatus);
  const client = useQueryClient();
  const [target, setTarget] = useState('');
  const move = useMutation({
    mutationFn: () =>
      take(
        api.POST('/api/v1/customer/devices/{device_id}/subscription', {
          params: { path: { device_id: device.device_id } },
          body: { subscription_id: target },
        }),
      ),
    onSuccess: () => {
      say(`The device is on ${target} now.`);
      setTarget('');
      void client.invalidateQueries({ queryKey: ['devices'] });
      void client.invalidateQueries({ queryKey: ['entitlements'] });
      void client.invalidateQueries({ queryKey: ['billing', 'status'] });
    },
  });
  const others = (status.data?.subscriptions ?? []).filter(
    (one) => one.subscription_id !== device.subscription_id && live(one.effective_status),
  );
  return (
    <section className="card stack tight" aria-labelledby="move">
      <h2 id="move">Move to another subscription</h2>
      {others.length === 0 ? (
        <p className="quiet">There is no other live subscription to move it to.</p>
      ) : (
        <form
          className="stack tight"
          onSubmit={(event) => {
            event.preventDefault();
            move.mutate();
          }}
        >
          <p className="quiet">It needs a free place there, and a free slot of its tier.</p>
          {move.isError ? <Problem error={move.error} tried="The device was not moved" /> : null}
          <Select
            name="target"
            label="To"
            value={target}
            onChange={setTarget}
            options={[
              { value: '', label: 'Choose …' },
              ...others.map((one) => ({
                value: one.subscription_id,
                label: `${planName(one.plan_id, 'Extra slots')} · ${one.subscription_id}`,
              })),
            ]}
          />
          <div className="row">
            <Button
              type="submit"
              busy={move.isPending}
              because={target ? null : 'Choose a subscription first'}
            >
              Move
            </Button>
          </div>
        </form>
      )}
    </section>
  );
}
