import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
} from '@tanstack/react-router';
import { ButtonLink } from './ui/button';
import { CustomerLayout } from './ui/layout';
import { Blank, Page, Skeleton } from './ui/page';
import { Problem } from './ui/problem';

/** What a pasted address may carry: only what is known, of the right kind. */
type Raw = Record<string, unknown>;
const text = (raw: unknown, pattern: RegExp) =>
  typeof raw === 'string' && pattern.test(raw) ? raw : undefined;
const whole = (raw: unknown) =>
  Number.isInteger(Number(raw)) && Number(raw) > 0 ? Number(raw) : undefined;
/** Without the keys that have no value. */
const given = <Search extends object>(search: Search) =>
  Object.fromEntries(Object.entries(search).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Search]?: Exclude<Search[Key], undefined>;
  };

const SUBSCRIPTION = /^SUB-[0-9-]{1,36}$/;

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound });

const customer = createRoute({
  getParentRoute: () => root,
  id: 'customer',
  component: CustomerLayout,
});

const home = createRoute({
  getParentRoute: () => customer,
  path: '/',
  component: lazyRouteComponent(() => import('./home/home-page'), 'HomePage'),
});

const billing = createRoute({
  getParentRoute: () => customer,
  path: '/billing',
  component: lazyRouteComponent(() => import('./billing/billing-page'), 'BillingPage'),
});

export const plansRoute = createRoute({
  getParentRoute: () => customer,
  path: '/billing/plans',
  validateSearch: (raw: Raw) =>
    given({ interval: raw.interval === 'year' ? ('year' as const) : undefined }),
  component: lazyRouteComponent(() => import('./billing/plans-page'), 'PlansPage'),
});

export const returnRoute = createRoute({
  getParentRoute: () => customer,
  path: '/billing/return',
  validateSearch: (raw: Raw) =>
    given({
      session_id: text(raw.session_id, /^cs_[A-Za-z0-9_]{1,252}$/),
      of: raw.of === 'slots' ? ('slots' as const) : undefined,
    }),
  component: lazyRouteComponent(() => import('./billing/return-page'), 'ReturnPage'),
});

export const addRoute = createRoute({
  getParentRoute: () => customer,
  path: '/billing/add',
  /** `tier.2=50`: slots by tier. */
  validateSearch: (raw: Raw) => {
    const tiers: Record<`tier.${number}`, number> = {};
    for (const [key, value] of Object.entries(raw)) {
      const count = whole(value);
      if (/^tier\.[1-9]\d{0,9}$/.test(key) && count) {
        tiers[key as `tier.${number}`] = Math.min(count, 100_000);
      }
    }
    const parent = text(raw.parent, SUBSCRIPTION);
    return { ...tiers, ...(parent ? { parent } : {}) } as Record<`tier.${number}`, number> & {
      parent?: string;
    };
  },
  component: lazyRouteComponent(() => import('./billing/add-page'), 'AddPage'),
});

export const devicesRoute = createRoute({
  getParentRoute: () => customer,
  path: '/devices',
  validateSearch: (raw: Raw) =>
    given({
      subscription_id: text(raw.subscription_id, SUBSCRIPTION),
      tier_id: whole(raw.tier_id),
      cursor: text(raw.cursor, /^.{1,1000}$/),
    }),
  component: lazyRouteComponent(() => import('./devices/devices-page'), 'DevicesPage'),
});

const register = createRoute({
  getParentRoute: () => customer,
  path: '/devices/new',
  validateSearch: (raw: Raw) => given({ id: text(raw.id, /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/) }),
  component: lazyRouteComponent(() => import('./devices/register-page'), 'RegisterPage'),
});

const assign = createRoute({
  getParentRoute: () => customer,
  path: '/devices/assign',
  component: lazyRouteComponent(() => import('./devices/assign-page'), 'AssignPage'),
});

export const deviceRoute = createRoute({
  getParentRoute: () => customer,
  path: '/devices/$id',
  component: lazyRouteComponent(() => import('./devices/device-page'), 'DevicePage'),
});

const organization = createRoute({
  getParentRoute: () => customer,
  path: '/settings/organization',
  component: lazyRouteComponent(
    () => import('./organization/organization-page'),
    'OrganizationPage',
  ),
});

export const router = createRouter({
  routeTree: root.addChildren([
    customer.addChildren([
      home,
      billing,
      plansRoute,
      returnRoute,
      addRoute,
      devicesRoute,
      register,
      assign,
      deviceRoute,
      organization,
    ]),
  ]),
  defaultPreload: 'intent',
  scrollRestoration: true,
  defaultPendingComponent: () => <Skeleton height={320} />,
  defaultErrorComponent: ({ error, reset }) => (
    <Problem error={error} tried="This page could not be shown" retry={reset} />
  ),
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}

function NotFound() {
  return (
    <main className="plain">
      <Page title="This page does not exist" narrow>
        <Blank
          title="Nothing is at this address"
          actions={
            <ButtonLink look="primary" to="/">
              Go to the overview
            </ButtonLink>
          }
        >
          The link may be old, or it was not copied whole.
        </Blank>
      </Page>
    </main>
  );
}
