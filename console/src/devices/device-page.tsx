import { useQuery } from '@tanstack/react-query';
import { useParams } from '@tanstack/react-router';
import { asRefusal } from '../api/problem';
import { ButtonLink } from '../ui/button';
import { Blank, Notice, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { Time } from '../ui/time';
import './devices.css';
import { Decommission } from './decommission';
import { Move } from './move';
import { type Device, device as query } from './queries';
import { Rename } from './rename';
import { TierChoice } from './tier-choice';

/** One device: what it is, its tier, where it counts, and its end. */
export function DevicePage() {
  const { id } = useParams({ from: '/customer/devices/$id' });
  const found = useQuery(query(id));
  const missing = found.isError && asRefusal(found.error).status === 404;
  return (
    <Page title={id} back={{ to: { to: '/devices' }, label: 'Devices' }}>
      {found.isPending ? <Skeleton height={320} /> : null}
      {missing ? (
        <Blank
          title="There is no such device"
          actions={<ButtonLink to="/devices">All devices</ButtonLink>}
        >
          It does not exist, or it is not your company’s.
        </Blank>
      ) : null}
      {found.isError && !missing ? (
        <Problem
          error={found.error}
          tried="The device could not be read"
          retry={() => void found.refetch()}
        />
      ) : null}
      {found.data ? <Loaded device={found.data} /> : null}
    </Page>
  );
}

function Loaded({ device }: { device: Device }) {
  const over = device.status === 'DECOMMISSIONED';
  return (
    <>
      {over ? (
        <Notice
          tone="info"
          title="This device is out of use"
          actions={
            <ButtonLink look="primary" to="/devices/new" search={{ id: device.device_id }}>
              Register it again
            </ButtonLink>
          }
        >
          It takes no place and no slot. The same id can be registered again.
        </Notice>
      ) : null}
      <div className="grid">
        <section className="card stack tight" aria-labelledby="facts">
          <h2 id="facts">Device</h2>
          <dl className="facts">
            <dt>Status</dt>
            <dd>{over ? 'Out of use' : 'In use'}</dd>
            <dt>Subscription</dt>
            <dd className="mono">{device.subscription_id ?? 'None'}</dd>
            <dt>Last seen</dt>
            <dd>{device.last_seen_at ? <Time at={device.last_seen_at} /> : 'Never'}</dd>
            <dt>Registered</dt>
            <dd>
              <Time at={device.registered_at} />
            </dd>
            {device.decommissioned_at ? (
              <>
                <dt>Out of use since</dt>
                <dd>
                  <Time at={device.decommissioned_at} />
                </dd>
              </>
            ) : null}
          </dl>
          {over ? null : <Rename device={device} />}
        </section>
        {over ? null : <TierChoice device={device} />}
      </div>
      {over ? null : (
        <div className="grid">
          <Move device={device} />
          <Decommission device={device} />
        </div>
      )}
    </>
  );
}
