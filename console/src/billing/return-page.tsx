import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { api, take } from '../api/client';
import { ButtonLink } from '../ui/button';
import { Blank, Page } from '../ui/page';
import { Problem } from '../ui/problem';
import './billing.css';

const LIMIT = 120_000;
/** Seconds between two looks: soon at first, then every five. */
const PAUSES = [1, 2, 3, 5];

/** Where Stripe leads back to: follows the checkout until what was paid is there. */
export function ReturnPage() {
  const { session_id: session, of } = useSearch({ from: '/customer/billing/return' });
  const [began] = useState(() => Date.now());
  const client = useQueryClient();
  const checkout = useQuery({
    queryKey: ['billing', 'checkout', session],
    queryFn: ({ signal }) =>
      take(
        api.GET('/api/v1/customer/billing/checkout/{session_id}', {
          params: { path: { session_id: session ?? '' } },
          signal,
        }),
      ),
    enabled: session !== undefined,
    refetchInterval: ({ state }) => {
      const open = state.data?.status === 'pending' || (!state.data && !state.error);
      if (!open || Date.now() - began > LIMIT) return false;
      return (PAUSES[state.dataUpdateCount] ?? 5) * 1000;
    },
  });
  const done = checkout.data?.status === 'provisioned';
  useEffect(() => {
    if (!done) return;
    void client.invalidateQueries({ queryKey: ['billing', 'status'] });
    void client.invalidateQueries({ queryKey: ['entitlements'] });
  }, [done, client]);
  const late = Date.now() - began > LIMIT;
  return (
    <Page
      title={done ? 'Thank you' : 'Your payment'}
      back={{ to: { to: '/billing' }, label: 'Billing' }}
      narrow
    >
      {session ? null : (
        <Blank
          title="No payment to follow"
          actions={<ButtonLink to="/billing">Billing</ButtonLink>}
        >
          This address is complete only when Stripe leads back to it.
        </Blank>
      )}
      {checkout.isError ? (
        <Problem
          error={checkout.error}
          tried="The payment could not be followed"
          retry={() => void checkout.refetch()}
        />
      ) : null}
      <div role="status">
        {session && !checkout.isError && !done && checkout.data?.status !== 'failed' ? (
          <Blank
            title={late ? 'It takes longer than usual' : 'Setting up what you bought …'}
            actions={late ? <ButtonLink to="/billing">Open billing</ButtonLink> : null}
          >
            {late
              ? 'It goes on without this page, and a mail comes when it is done. Nothing is charged twice.'
              : 'Stripe has your payment. This page changes by itself, usually within seconds.'}
          </Blank>
        ) : null}
        {done ? (
          <Blank
            title={of === 'slots' ? 'Your slots are ready' : 'Your subscription is ready'}
            actions={
              <>
                <ButtonLink look="primary" to="/devices">
                  Go to devices
                </ButtonLink>
                <ButtonLink to="/billing">Open billing</ButtonLink>
              </>
            }
          >
            {checkout.data?.subscription_id ? (
              <>
                It is <span className="mono">{checkout.data.subscription_id}</span>.
              </>
            ) : null}
          </Blank>
        ) : null}
        {checkout.data?.status === 'failed' ? (
          <Blank
            title="The payment did not work"
            actions={
              <ButtonLink look="primary" to={of === 'slots' ? '/billing/add' : '/billing/plans'}>
                Try again
              </ButtonLink>
            }
          >
            The checkout expired or was refused. If you were charged all the same, support finds it
            by the reference in your bank statement.
          </Blank>
        ) : null}
      </div>
    </Page>
  );
}
