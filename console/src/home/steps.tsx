import { Link } from '@tanstack/react-router';
import type { Schemas } from '../api/client';
import './home.css';

interface StepsProps {
  company: Schemas['Organization'] | undefined;
  status: Schemas['BillingStatus'] | undefined;
  devices: Schemas['OwnDevices'] | undefined;
  use: Schemas['Entitlements'] | undefined;
}

/** The first steps of a new customer; gone once all are done. */
export function Steps({ company, status, devices, use }: StepsProps) {
  if (!company || !status || !devices || !use) return null;
  if (status.subscriptions.length === 0) return null;
  const steps: {
    done: boolean;
    label: string;
    why: string;
    to: '/settings/organization' | '/devices/new' | '/devices';
  }[] = [
    {
      done: Boolean(company.country && company.contact_email),
      label: 'Complete your company',
      why: 'Invoices and notices need an address and a contact.',
      to: '/settings/organization',
    },
    {
      done: devices.count > 0,
      label: 'Register your first device',
      why: 'It takes one of the places of your plan.',
      to: '/devices/new',
    },
    {
      done: use.tiers.some((tier) => tier.used > 0),
      label: 'Give a device its tier',
      why: 'A tier decides what the device can do.',
      to: '/devices',
    },
  ];
  const open = steps.filter((step) => !step.done);
  if (open.length === 0) return null;
  return (
    <section className="card stack tight" aria-labelledby="steps">
      <h2 id="steps">
        First steps{' '}
        <span className="quiet small">{`${steps.length - open.length} of ${steps.length} done`}</span>
      </h2>
      <ol className="steps">
        {steps.map((step) => (
          <li key={step.label} className={step.done ? 'done' : ''}>
            <span className="mark" aria-hidden="true">
              {step.done ? '✓' : ''}
            </span>
            <div>
              {step.done ? (
                <span>
                  {step.label} <span className="hidden">(done)</span>
                </span>
              ) : (
                <Link to={step.to}>{step.label}</Link>
              )}
              <p className="quiet small">{step.why}</p>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}
