import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { families, type Next, nextOf } from '../billing/family.rule';
import { billingStatus, entitlements, upcoming } from '../billing/queries';
import { devices } from '../devices/queries';
import { organization } from '../organization/queries';
import { ButtonLink } from '../ui/button';
import { Meter } from '../ui/meter';
import { Blank, Notice, Page, Skeleton } from '../ui/page';
import { Problem } from '../ui/problem';
import { Time } from '../ui/time';
import { Limits } from './limits';
import { Steps } from './steps';

/** What a customer sees first: is all well, what comes next, how much is used. */
export function HomePage() {
  const company = useQuery(organization);
  const status = useQuery(billingStatus);
  const ahead = useQuery(upcoming);
  const use = useQuery(entitlements);
  const some = useQuery(devices({}, 1));
  return (
    <Page
      title={company.data?.name ?? 'Overview'}
      lead="What your company has, what of it is used, and what happens next."
    >
      <Banner />
      {status.isPending ? <Skeleton height={120} /> : null}
      {status.isError ? (
        <Problem
          error={status.error}
          tried="Your subscriptions could not be read"
          retry={() => void status.refetch()}
        />
      ) : null}
      {status.data?.subscriptions.length === 0 ? (
        <Blank
          title="No plan yet"
          actions={
            <ButtonLink look="primary" to="/billing/plans">
              Compare plans
            </ButtonLink>
          }
        >
          Buy a plan, and your devices can be registered a minute later.
        </Blank>
      ) : null}
      {ahead.isError ? (
        <Problem
          error={ahead.error}
          tried="What happens next could not be read"
          retry={() => void ahead.refetch()}
        />
      ) : null}
      <Steps company={company.data} status={status.data} devices={some.data} use={use.data} />
      {status.data && status.data.subscriptions.length > 0 && !ahead.isPending ? (
        <section className="card stack tight" aria-labelledby="next">
          <h2 id="next">What happens next</h2>
          <ol className="timeline">
            {families(status.data.subscriptions).map(({ root }) => (
              <Event
                key={root.subscription_id}
                next={nextOf(
                  root,
                  ahead.data?.find((one) => one.subscription_id === root.subscription_id),
                )}
                id={root.subscription_id}
              />
            ))}
          </ol>
        </section>
      ) : null}
      {use.isPending ? <Skeleton height={180} /> : null}
      {use.isError ? (
        <Problem
          error={use.error}
          tried="What you use could not be read"
          retry={() => void use.refetch()}
        />
      ) : null}
      {use.data && use.data.families.length > 0 ? (
        <div className="grid">
          <section className="card stack" aria-labelledby="use">
            <div className="row ends">
              <h2 id="use">Devices and slots</h2>
              <Link to="/devices">All devices</Link>
            </div>
            {use.data.families.every((family) => !family.live) ? (
              <p className="quiet">
                Nothing counts while it is suspended. What you have is kept for the payment.
              </p>
            ) : null}
            <Meter label="Devices" used={use.data.devices.used} limit={use.data.devices.limit} />
            {use.data.tiers.map((tier) => (
              <Meter
                key={tier.tier_id}
                label={`${tier.display_name} slots`}
                used={tier.used}
                limit={tier.limit}
                over={tier.over_limit}
              />
            ))}
          </section>
          <Limits of={use.data} />
        </div>
      ) : null}
    </Page>
  );
}

function Event({ next, id }: { next: Next | null; id: string }) {
  if (!next) return null;
  return (
    <li className={next.tone}>
      <p>
        <b>{next.title}</b>
        {next.at ? (
          <>
            {' '}
            · <Time at={next.at} as={next.end ? 'end' : 'instant'} /> (
            <Time at={next.at} as="ago" />)
          </>
        ) : null}
      </p>
      <p className="quiet">
        {next.detail}
        {next.mails[0] ? (
          <>
            {' '}
            A mail comes on <Time at={next.mails[0]} as="day" />.
          </>
        ) : null}
      </p>
      <p className="small quiet mono">{id}</p>
    </li>
  );
}

/** The worst of the subscriptions, where something has to be done. */
function Banner() {
  const { data } = useQuery(billingStatus);
  const worst = data ? families(data.subscriptions)[0]?.root : undefined;
  if (!worst) return null;
  const pay = (
    <ButtonLink look="primary" to="/billing">
      Open billing
    </ButtonLink>
  );
  if (worst.effective_status === 'SUSPENDED') {
    return (
      <Notice tone="bad" title="Your access is suspended" actions={pay}>
        A payment is missing. Your devices and slots are kept and come back with it.
      </Notice>
    );
  }
  if (worst.effective_status === 'GRACE' && !worst.payment_pending_until) {
    return (
      <Notice tone="warn" title="A payment is overdue" actions={pay}>
        You have access until{' '}
        {worst.grace_end ? <Time at={worst.grace_end} /> : 'the end of the grace period'}.
      </Notice>
    );
  }
  return null;
}
