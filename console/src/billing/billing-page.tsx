import { useMutation, useQuery } from '@tanstack/react-query';
import { Button, ButtonLink } from '../ui/button';
import { Blank, Notice, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { families } from './family.rule';
import { FamilyCard } from './family-card';
import { billingStatus, openPortal, upcoming } from './queries';

/** The subscriptions, and the ways to pay, to add and to change. */
export function BillingPage() {
  const status = useQuery(billingStatus);
  const ahead = useQuery(upcoming);
  const portal = useMutation({ mutationFn: openPortal });
  const data = status.data;
  const manage = data?.linked ? (
    <Button look="primary" busy={portal.isPending} onClick={() => portal.mutate()}>
      Manage billing
    </Button>
  ) : null;
  return (
    <Page
      title="Billing"
      lead="What you pay for. Cards, invoices and cancelling are in Stripe’s portal."
      actions={
        <>
          <ButtonLink to="/billing/plans">Compare plans</ButtonLink>
          {manage}
        </>
      }
    >
      {portal.isError ? (
        <Problem error={portal.error} tried="The billing portal did not open" />
      ) : null}
      {status.isPending ? <Skeleton height={280} /> : null}
      {status.isError ? (
        <Problem
          error={status.error}
          tried="Your subscriptions could not be read"
          retry={() => void status.refetch()}
        />
      ) : null}
      {data?.subscriptions.length === 0 ? (
        <Blank
          title="No subscription yet"
          actions={
            <ButtonLink look="primary" to="/billing/plans">
              Subscribe
            </ButtonLink>
          }
        >
          Choose a plan and pay on Stripe’s page. It is ready within a minute.
        </Blank>
      ) : null}
      {data && !data.linked && data.subscriptions.length > 0 ? (
        <Notice tone="info" title="You pay by invoice">
          There is no account at Stripe, so no card and no portal. Ask support to change a term or a
          plan.
        </Notice>
      ) : null}
      {data
        ? families(data.subscriptions).map((family) => (
            <FamilyCard
              key={family.root.subscription_id}
              family={family}
              forecast={ahead.data?.find(
                (one) => one.subscription_id === family.root.subscription_id,
              )}
              onPay={data.linked ? () => portal.mutate() : null}
            />
          ))
        : null}
      {data ? (
        <section className="card stack tight" aria-labelledby="account">
          <h2 id="account">Account</h2>
          <dl className="facts">
            <dt>Invoices go to</dt>
            <dd>{data.billing_email ?? 'No address yet'}</dd>
            <dt>Paid through</dt>
            <dd>{data.linked ? 'Stripe' : 'Invoice'}</dd>
            <dt>Support</dt>
            <dd className="capital">{data.support_tier}</dd>
          </dl>
        </section>
      ) : null}
    </Page>
  );
}
