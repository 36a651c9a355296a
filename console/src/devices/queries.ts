import { queryOptions } from '@tanstack/react-query';
import { api, type Schemas, take } from '../api/client';

export type Device = Schemas['Device'];

export interface DeviceFilter {
  subscription_id?: string;
  tier_id?: number;
  cursor?: string;
}

export const PAGE = 50;

export const devices = (filter: DeviceFilter, limit = PAGE) =>
  queryOptions({
    queryKey: ['devices', 'list', filter, limit],
    queryFn: ({ signal }) =>
      take(
        api.GET('/api/v1/customer/devices', { params: { query: { ...filter, limit } }, signal }),
      ),
  });

export const device = (id: string) =>
  queryOptions({
    queryKey: ['devices', 'one', id],
    queryFn: ({ signal }) =>
      take(
        api.GET('/api/v1/customer/devices/{device_id}', {
          params: { path: { device_id: id } },
          signal,
        }),
      ),
  });

/** Every device of the filter, page by page; `seen` is told how many there are so far. */
export async function allDevices(
  filter: Omit<DeviceFilter, 'cursor'>,
  seen: (count: number) => void,
  signal: AbortSignal,
): Promise<Device[]> {
  const out: Device[] = [];
  let cursor: string | undefined;
  do {
    const page = await take(
      api.GET('/api/v1/customer/devices', {
        params: { query: { ...filter, limit: 500, ...(cursor ? { cursor } : {}) } },
        signal,
      }),
    );
    out.push(...page.devices);
    seen(out.length);
    cursor = page.next_cursor ?? undefined;
  } while (cursor);
  return out;
}
