import { queryOptions } from '@tanstack/react-query';
import { api, take } from '../api/client';

export const organization = queryOptions({
  queryKey: ['organization'],
  queryFn: ({ signal }) => take(api.GET('/api/v1/customer/organization', { signal })),
});
