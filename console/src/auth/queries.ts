import { queryOptions } from '@tanstack/react-query';
import { api, take } from '../api/client';

/** Who calls, and for which company. */
export const me = queryOptions({
  queryKey: ['me'],
  queryFn: ({ signal }) => take(api.GET('/api/v1/me', { signal })),
  staleTime: Number.POSITIVE_INFINITY,
});
