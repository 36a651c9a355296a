import { useQuery } from '@tanstack/react-query';
import { Link, Outlet, useLocation } from '@tanstack/react-router';
import { type ReactNode, useEffect, useState } from 'react';
import { asRefusal } from '../api/problem';
import { useWaiting } from '../api/wait';
import { me } from '../auth/queries';
import { email, signIn, signOut } from '../auth/session';
import { Button } from './button';
import { Plain } from './plain';
import { useSetting } from './settings';
import { Toast } from './toast';

const ICONS = {
  home: 'M3 9.5 10 3l7 6.5M5 8.5V17h10V8.5',
  billing: 'M2.5 5h15v10h-15zM2.5 8.5h15M5.5 12h3',
  devices: 'M6 6h8v8H6zM8 2.5V6m4-3.5V6M8 14v3.5m4-3.5v3.5M2.5 8H6m-3.5 4H6m8-4h3.5M14 12h3.5',
  organization: 'M4 17V4h8v13M12 8h4v9M2.5 17h15M7 7.5h2M7 11h2',
} as const;

const PAGES = [
  { to: '/', label: 'Overview', icon: ICONS.home },
  { to: '/billing', label: 'Billing', icon: ICONS.billing },
  { to: '/devices', label: 'Devices', icon: ICONS.devices },
  { to: '/settings/organization', label: 'Organization', icon: ICONS.organization },
] as const;

function Icon({ path }: { path: string }) {
  return (
    <svg width="19" height="19" viewBox="0 0 20 20" fill="none" aria-hidden="true">
      <path
        d={path}
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}

/** The frame of the customers' pages; whom they are not for is told so. */
export function CustomerLayout() {
  const { data, error } = useQuery(me);
  // Their answer is not waited for: each page asks the API, which refuses by itself.
  if (error && asRefusal(error).status === 403) {
    return <Refused title="This account cannot be used here">{asRefusal(error).message}</Refused>;
  }
  if (data && !data.roles.includes('customer')) {
    return (
      <Refused title="This console is for customers">
        {email() || 'This account'} belongs to no company here. Sign in with an account of a
        company.
      </Refused>
    );
  }
  if (data && !data.tenant) {
    return (
      <Refused title="Your account belongs to no company yet">
        Ask support to attach {email()} to your company. Nothing is wrong with your password.
      </Refused>
    );
  }
  if (data?.tenant?.status === 'DELETED') {
    return (
      <Refused title={`The account of ${data.tenant.name} was closed`}>
        Ask support if that is a mistake. Your password still works.
      </Refused>
    );
  }
  return <Frame />;
}

function Refused({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Plain title={title}>
      <p>{children}</p>
      <div className="row">
        <Button look="primary" onClick={() => void signIn(true)}>
          Use another account
        </Button>
        <Button onClick={() => void signOut()}>Sign out</Button>
      </div>
    </Plain>
  );
}

function Frame() {
  const [open, setOpen] = useState(false);
  const { pathname } = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a way that was taken closes the menu
  useEffect(() => setOpen(false), [pathname]);
  return (
    <>
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <Strip />
      <div className="shell">
        <header className={open ? 'side open' : 'side'}>
          <div className="top">
            <Link to="/" className="brand">
              <img src="/icon.svg" alt="" />
              Pulse
            </Link>
            <button
              type="button"
              className="button menu-button"
              aria-expanded={open}
              aria-controls="menu"
              onClick={() => setOpen(!open)}
            >
              {open ? 'Close' : 'Menu'}
            </button>
          </div>
          <div className="folds" id="menu">
            <nav aria-label="Pages">
              <ul className="nav">
                {PAGES.map((page) => (
                  <li key={page.to}>
                    <Link to={page.to} activeOptions={{ exact: page.to === '/' }}>
                      <Icon path={page.icon} />
                      {page.label}
                    </Link>
                  </li>
                ))}
              </ul>
            </nav>
            <Account />
          </div>
        </header>
        <main className="main" id="content" tabIndex={-1}>
          <div>
            <Outlet />
          </div>
        </main>
      </div>
      <Toast />
    </>
  );
}

function Account() {
  const [look, setLook] = useSetting('look');
  const [zone, setZone] = useSetting('zone');
  return (
    <div className="account">
      <Choice
        legend="Appearance"
        value={look}
        onChange={setLook}
        options={[
          ['system', 'Auto'],
          ['light', 'Light'],
          ['dark', 'Dark'],
        ]}
      />
      <Choice
        legend="Times"
        value={zone}
        onChange={setZone}
        options={[
          ['utc', 'UTC'],
          ['local', 'Local'],
        ]}
      />
      <span className="who" title={email()}>
        {email()}
      </span>
      <Button onClick={() => void signOut()}>Sign out</Button>
    </div>
  );
}

interface ChoiceProps<Value extends string> {
  legend: string;
  value: Value;
  onChange: (value: Value) => void;
  options: readonly (readonly [Value, string])[];
}

/** Few values, of which one counts: radio buttons that look like one control. */
export function Choice<Value extends string>(props: ChoiceProps<Value>) {
  const { legend, value, onChange, options } = props;
  return (
    <fieldset>
      <legend className="hidden">{legend}</legend>
      <div className="choice">
        {options.map(([option, label]) => (
          <label key={option}>
            <input
              type="radio"
              name={legend}
              checked={option === value}
              onChange={() => onChange(option)}
            />
            {label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** What concerns every page: no network, or a pause that the server asked for. */
function Strip() {
  const waiting = useWaiting();
  const [online, setOnline] = useState(navigator.onLine);
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const change = () => setOnline(navigator.onLine);
    window.addEventListener('online', change);
    window.addEventListener('offline', change);
    return () => {
      window.removeEventListener('online', change);
      window.removeEventListener('offline', change);
    };
  }, []);
  useEffect(() => {
    if (!waiting) return;
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [waiting]);
  const seconds = Math.max(0, Math.ceil((waiting - now) / 1000));
  return (
    <div role="status">
      {online ? null : <div className="strip">This device is offline. What you typed is kept.</div>}
      {waiting ? (
        <div className="strip">
          The server is busy. Trying again{seconds > 0 ? ` in ${seconds} s` : ''} …
        </div>
      ) : null}
    </div>
  );
}
