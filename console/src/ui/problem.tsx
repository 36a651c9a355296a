import { Link } from '@tanstack/react-router';
import { type ReactNode, useEffect, useRef } from 'react';
import { asRefusal, next, type Refusal } from '../api/problem';
import { Button, ButtonLink } from './button';
import { Meter } from './meter';
import { say } from './toast';

interface ProblemProps {
  error: unknown;
  /** What was tried: "The plans could not be read". */
  tried: string;
  retry?: () => void;
  /** More ways out, beside those of the code. */
  children?: ReactNode;
}

/** A refusal: what was tried, the API's sentence, what to do, and the request id. */
export function Problem({ error, tried, retry, children }: ProblemProps) {
  const refusal = asRefusal(error);
  const box = useRef<HTMLDivElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: each new refusal gets the focus
  useEffect(() => {
    if (!retry) box.current?.focus();
  }, [error]);
  const { room } = refusal;
  return (
    <div className="card problem" role="alert" ref={box} tabIndex={-1}>
      <h2>{tried}</h2>
      <p>{refusal.message}</p>
      {room ? <Meter label="Paid for" used={room.used} limit={room.limit} /> : null}
      {next(refusal.code) ? <p className="quiet">{next(refusal.code)}</p> : null}
      <FieldList refusal={refusal} />
      <div className="row">
        {retry ? <Button onClick={retry}>Try again</Button> : null}
        <WayOut code={refusal.code} />
        {children}
      </div>
      {refusal.requestId ? (
        <p className="small quiet row">
          <span>
            Request <code>{refusal.requestId}</code>
          </span>
          <Button
            look="bare"
            onClick={() => {
              void navigator.clipboard.writeText(refusal.requestId ?? '');
              say('The request id was copied.');
            }}
          >
            Copy
          </Button>
        </p>
      ) : null}
    </div>
  );
}

function FieldList({ refusal }: { refusal: Refusal }) {
  if (refusal.errors.length === 0) return null;
  return (
    <ul>
      {refusal.errors.map(({ field, message }) => (
        <li key={field + message}>
          <a
            href={`#${field}`}
            onClick={(event) => {
              event.preventDefault();
              document.getElementById(field)?.focus();
            }}
          >
            {field.replaceAll('_', ' ')}
          </a>{' '}
          {message}
        </li>
      ))}
    </ul>
  );
}

/** The pages that solve a refusal. */
function WayOut({ code }: { code: string }) {
  switch (code) {
    case 'no_free_slot':
      return (
        <>
          <ButtonLink look="primary" to="/billing/add">
            Buy slots
          </ButtonLink>
          <Link to="/devices">Free a slot</Link>
        </>
      );
    case 'tier_not_in_plan':
      return (
        <>
          <ButtonLink look="primary" to="/billing/add">
            Buy slots
          </ButtonLink>
          <Link to="/billing/plans">Compare plans</Link>
        </>
      );
    case 'device_limit_reached':
      return (
        <>
          <ButtonLink look="primary" to="/billing/plans">
            Compare plans
          </ButtonLink>
          <Link to="/devices">Free a place</Link>
        </>
      );
    case 'no_billing_account':
    case 'no_live_subscription':
      return (
        <ButtonLink look="primary" to="/billing/plans">
          See the plans
        </ButtonLink>
      );
    case 'subscription_not_live':
    case 'parent_not_live':
      return (
        <ButtonLink look="primary" to="/billing">
          Open billing
        </ButtonLink>
      );
    case 'billing_email_refused':
      return <ButtonLink to="/settings/organization">Correct the address</ButtonLink>;
    default:
      return null;
  }
}
