import { useQueryClient } from '@tanstack/react-query';
import { api, ifMatch, type Schemas, take } from '../api/client';
import { DeviceUpdate } from '../api/constraints.gen';
import { Button } from '../ui/button';
import type { Fields } from '../ui/draft';
import { Field } from '../ui/field';
import { Problem } from '../ui/problem';
import { changed, useSave } from '../ui/save';
import { say } from '../ui/toast';
import { type Device, device as query } from './queries';

const LABELS = { name: 'Name', site_id: 'Site' } as const;
const fields = (of: Device): Fields => ({ name: of.name ?? '', site_id: of.site_id ?? '' });

/** The name and the site of a device: what people call it and where it stands. */
export function Rename({ device }: { device: Device }) {
  const client = useQueryClient();
  const path = { device_id: device.device_id };
  const { draft, busy, refusal, submit, discard, dialog } = useSave({
    name: `device.${device.device_id}`,
    saved: device,
    fields,
    labels: LABELS,
    put: (version, base, now) =>
      take(
        api.PATCH('/api/v1/customer/devices/{device_id}', {
          params: { path, header: ifMatch(version) },
          body: changed(base, now) as Schemas['DeviceUpdate'],
        }),
      ),
    read: () => take(api.GET('/api/v1/customer/devices/{device_id}', { params: { path } })),
    onSaved: (now) => {
      client.setQueryData(query(device.device_id).queryKey, now);
      void client.invalidateQueries({ queryKey: ['devices', 'list'] });
      say('The device is saved.');
    },
  });
  return (
    <form
      className="stack tight"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {refusal ? <Problem error={refusal} tried="The device was not saved" /> : null}
      {(['name', 'site_id'] as const).map((name) => (
        <Field
          key={name}
          name={name}
          label={LABELS[name]}
          value={draft.fields[name] ?? ''}
          onChange={(value) => draft.set(name, value)}
          of={DeviceUpdate[name]}
          refusal={refusal}
        />
      ))}
      {draft.dirty ? (
        <div className="row">
          <Button type="submit" look="primary" busy={busy}>
            Save
          </Button>
          <Button onClick={discard}>Discard changes</Button>
        </div>
      ) : null}
      {dialog}
    </form>
  );
}
