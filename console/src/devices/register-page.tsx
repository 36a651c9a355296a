import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useRef } from 'react';
import { api, Intention, take } from '../api/client';
import { OwnDevice } from '../api/constraints.gen';
import { asRefusal } from '../api/problem';
import { live, planName } from '../billing/family.rule';
import { billingStatus } from '../billing/queries';
import { Button, ButtonLink } from '../ui/button';
import { useDraft } from '../ui/draft';
import { Field, Select } from '../ui/field';
import { Page } from '../ui/page';
import { Problem } from '../ui/problem';
import { say } from '../ui/toast';

const EMPTY = { device_id: '', name: '', site_id: '', subscription_id: '' };

/** Registers one device within the places of the plan. */
export function RegisterPage() {
  const { id = '' } = useSearch({ from: '/customer/devices/new' });
  const draft = useDraft('device', { ...EMPTY, device_id: id }, 0);
  const { device_id = '', name = '', site_id = '', subscription_id = '' } = draft.fields;
  const status = useQuery(billingStatus);
  const client = useQueryClient();
  const navigate = useNavigate();
  const intention = useRef(new Intention());
  const register = useMutation({
    mutationFn: async () => {
      const body = {
        device_id,
        ...(name ? { name } : {}),
        ...(site_id ? { site_id } : {}),
        ...(subscription_id ? { subscription_id } : {}),
      };
      return await take(
        api.POST('/api/v1/customer/devices', {
          params: { header: intention.current.header(body) },
          body,
        }),
      );
    },
    onSuccess: (device) => {
      intention.current.done();
      draft.clear(EMPTY, 0);
      void client.invalidateQueries({ queryKey: ['devices'] });
      void client.invalidateQueries({ queryKey: ['entitlements'] });
      void client.invalidateQueries({ queryKey: ['billing', 'status'] });
      say(`${device.device_id} is registered.`);
      void navigate({ to: '/devices/$id', params: { id: device.device_id } });
    },
  });
  const refusal = register.error ? asRefusal(register.error) : null;
  const homes = status.data?.subscriptions.filter(
    (one) => one.subscription_type !== 'ADDON' && live(one.effective_status),
  );
  return (
    <Page
      title="Register a device"
      lead="It takes one place of your plan. Its tier is chosen afterwards."
      back={{ to: { to: '/devices' }, label: 'Devices' }}
      narrow
    >
      {refusal ? (
        <Problem error={refusal} tried="The device was not registered">
          {refusal.code === 'device_exists' ? (
            <Link to="/devices/$id" params={{ id: device_id }}>
              Open {device_id}
            </Link>
          ) : null}
        </Problem>
      ) : null}
      <form
        className="card stack"
        onSubmit={(event) => {
          event.preventDefault();
          register.mutate();
        }}
      >
        <div className="fields">
          <Field
            name="device_id"
            label="Device id"
            value={device_id}
            onChange={(value) => draft.set('device_id', value.trim())}
            of={OwnDevice.device_id}
            hint="As the device reports itself: letters, digits and . _ : -"
            refusal={refusal}
            wide
          />
          <Field
            name="name"
            label="Name"
            value={name}
            onChange={(value) => draft.set('name', value)}
            of={OwnDevice.name}
            refusal={refusal}
          />
          <Field
            name="site_id"
            label="Site"
            value={site_id}
            onChange={(value) => draft.set('site_id', value)}
            of={OwnDevice.site_id}
            refusal={refusal}
          />
          {homes && homes.length > 1 ? (
            <Select
              name="subscription_id"
              label="Subscription"
              value={subscription_id}
              onChange={(value) => draft.set('subscription_id', value)}
              options={[
                { value: '', label: 'The one with room' },
                ...homes.map((one) => ({
                  value: one.subscription_id,
                  label: `${planName(one.plan_id)} · ${one.subscription_id}`,
                })),
              ]}
            />
          ) : null}
        </div>
        <div className="row">
          <Button type="submit" look="primary" busy={register.isPending}>
            Register
          </Button>
          <ButtonLink to="/devices">Cancel</ButtonLink>
        </div>
      </form>
    </Page>
  );
}
