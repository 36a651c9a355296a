import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { Link, useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { planName } from '../billing/family.rule';
import { billingStatus, entitlements, offeredTiers } from '../billing/queries';
import { Button, ButtonLink } from '../ui/button';
import { type Column, DataTable } from '../ui/data-table';
import { Select } from '../ui/field';
import { Meter } from '../ui/meter';
import { Blank, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { Time } from '../ui/time';
import './devices.css';
import { Export } from './export';
import { type Device, devices } from './queries';
import { TierBar } from './tier-bar';

const COLUMNS: readonly Column<Device>[] = [
  {
    label: 'Device',
    lead: true,
    cell: (device) => (
      <>
        <Link to="/devices/$id" params={{ id: device.device_id }} className="mono">
          {device.device_id}
        </Link>
        {device.name ? <div className="quiet small">{device.name}</div> : null}
      </>
    ),
  },
  {
    label: 'Tier',
    cell: (device) => device.tier_display_name ?? <span className="quiet">No tier</span>,
  },
  {
    label: 'Subscription',
    cell: (device) =>
      device.subscription_id ? (
        <span className="mono small">{device.subscription_id}</span>
      ) : (
        <span className="quiet">None</span>
      ),
  },
  {
    label: 'Site',
    cell: (device) => device.site_id ?? <span className="quiet">—</span>,
  },
  {
    label: 'Last seen',
    right: true,
    cell: (device) =>
      device.last_seen_at ? (
        <Time at={device.last_seen_at} as="ago" />
      ) : (
        <span className="quiet">Never</span>
      ),
  },
];

/** The devices in use, by id; the filters are in the address. */
export function DevicesPage() {
  const search = useSearch({ from: '/customer/devices' });
  const { cursor, ...filter } = search;
  const navigate = useNavigate();
  const list = useQuery({ ...devices(search), placeholderData: keepPreviousData });
  const tiers = useQuery(offeredTiers);
  const status = useQuery(billingStatus);
  const use = useQuery(entitlements);
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const filtered = Object.keys(filter).length > 0;
  const go = (next: Partial<typeof search>) => {
    const { cursor: _, ...kept } = { ...filter, ...next };
    const clean = Object.fromEntries(Object.entries(kept).filter(([, value]) => value));
    void navigate({ to: '/devices', search: clean });
  };
  const tier = use.data?.tiers.find((one) => one.tier_id === filter.tier_id);
  const rows = list.data?.devices ?? [];
  return (
    <Page
      title="Devices"
      lead="The devices of your company that are in use, with the tier of each."
      actions={
        <>
          <ButtonLink to="/devices/assign">Assign many</ButtonLink>
          <ButtonLink look="primary" to="/devices/new">
            Register a device
          </ButtonLink>
        </>
      }
    >
      <div>
        <div className="filters">
          <Select
            name="tier_id"
            label="Tier"
            value={String(filter.tier_id ?? '')}
            onChange={(value) => go({ tier_id: Number(value) })}
            options={[
              { value: '', label: 'Every tier' },
              ...(tiers.data ?? []).map((one) => ({
                value: String(one.tier_id),
                label: one.display_name,
              })),
            ]}
          />
          <Select
            name="subscription_id"
            label="Subscription"
            value={filter.subscription_id ?? ''}
            onChange={(value) => go({ subscription_id: value })}
            options={[
              { value: '', label: 'Every subscription' },
              ...(status.data?.subscriptions ?? []).map((one) => ({
                value: one.subscription_id,
                label: `${planName(one.plan_id, 'Extra slots')} · ${one.subscription_id}`,
              })),
            ]}
          />
          {filtered ? (
            <Button look="bare" onClick={() => void navigate({ to: '/devices', search: {} })}>
              Clear
            </Button>
          ) : null}
          <Export filter={filter} />
        </div>
        {tier ? (
          <div className="filter-meter">
            <Meter
              label={`${tier.display_name} slots`}
              used={tier.used}
              limit={tier.limit}
              over={tier.over_limit}
            />
          </div>
        ) : null}
        {list.isPending ? <Skeleton height={360} /> : null}
        {list.isError ? (
          <Problem
            error={list.error}
            tried="The devices could not be read"
            retry={() => void list.refetch()}
          />
        ) : null}
        {list.isSuccess && rows.length === 0 ? (
          <Empty filtered={filtered} paged={cursor !== undefined} />
        ) : null}
        {rows.length > 0 && !list.isError ? (
          <DataTable
            caption="Devices in use"
            columns={COLUMNS}
            rows={rows}
            id={(device) => device.device_id}
            busy={list.isPlaceholderData}
            picked={picked}
            onPick={(ids, on) => {
              const now = new Set(picked);
              for (const id of ids) on ? now.add(id) : now.delete(id);
              setPicked(now);
            }}
            paging={{
              first: cursor ? () => go({}) : null,
              next: list.data?.next_cursor
                ? () =>
                    void navigate({
                      to: '/devices',
                      search: { ...filter, cursor: list.data.next_cursor ?? '' },
                    })
                : null,
            }}
          />
        ) : null}
      </div>
      {picked.size > 0 ? (
        <TierBar ids={[...picked]} tiers={tiers.data ?? []} onDone={() => setPicked(new Set())} />
      ) : null}
    </Page>
  );
}

function Empty({ filtered, paged }: { filtered: boolean; paged: boolean }) {
  if (filtered || paged) {
    return (
      <Blank
        title={filtered ? 'No device with these filters' : 'No device on this page'}
        actions={
          <ButtonLink to="/devices" search={{}}>
            Show all devices
          </ButtonLink>
        }
      >
        Other devices are in use all the same.
      </Blank>
    );
  }
  return (
    <Blank
      title="No device yet"
      actions={
        <ButtonLink look="primary" to="/devices/new">
          Register a device
        </ButtonLink>
      }
    >
      A device takes one place of your plan, and can then get a tier.
    </Blank>
  );
}
