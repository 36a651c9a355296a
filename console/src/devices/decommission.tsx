import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, take } from '../api/client';
import { Button } from '../ui/button';
import { Dialog } from '../ui/dialog';
import { Problem } from '../ui/problem';
import { say } from '../ui/toast';
import type { Device } from './queries';

/** Takes a device out of use, after saying what that frees. */
export function Decommission({ device }: { device: Device }) {
  const [open, setOpen] = useState(false);
  const client = useQueryClient();
  const end = useMutation({
    mutationFn: () =>
      take(
        api.DELETE('/api/v1/customer/devices/{device_id}', {
          params: { path: { device_id: device.device_id } },
        }),
      ),
    onSuccess: () => {
      setOpen(false);
      say(`${device.device_id} is out of use.`);
      void client.invalidateQueries({ queryKey: ['devices'] });
      void client.invalidateQueries({ queryKey: ['entitlements'] });
      void client.invalidateQueries({ queryKey: ['billing', 'status'] });
    },
  });
  return (
    <section className="card stack tight" aria-labelledby="end">
      <h2 id="end">Take out of use</h2>
      <p className="quiet">Its place becomes free for another device, and so does its slot.</p>
      <div className="row">
        <Button onClick={() => setOpen(true)}>Take out of use …</Button>
      </div>
      {open ? (
        <Dialog title={`Take ${device.device_id} out of use?`} onClose={() => setOpen(false)}>
          <p>This frees:</p>
          <ul className="frees">
            <li>
              one device place
              {device.subscription_id
                ? ` of ${device.subscription_id}`
                : ' of none: it is on no subscription'}
            </li>
            {device.tier_display_name ? <li>one {device.tier_display_name} slot</li> : null}
          </ul>
          <p className="quiet">
            The device loses its tier at once. The same id can be registered again later.
          </p>
          {end.isError ? <Problem error={end.error} tried="The device is still in use" /> : null}
          <div className="row ends">
            <Button onClick={() => setOpen(false)}>Keep it</Button>
            <Button look="danger" busy={end.isPending} onClick={() => end.mutate()}>
              Take out of use
            </Button>
          </div>
        </Dialog>
      ) : null}
    </section>
  );
}
