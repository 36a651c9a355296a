/** The running stack, from its environment, and what a test does there besides clicking. */

/** A setting of `stack.env`. */
export function stack(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with cargo xtask console test`);
  return value;
}

const realm = () => `${stack('KEYCLOAK_URL')}/realms/${stack('KEYCLOAK_REALM')}`;
const admin = () => `${stack('KEYCLOAK_URL')}/admin/realms/${stack('KEYCLOAK_REALM')}`;

async function checked(answer: Response): Promise<Response> {
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${await answer.text()}`);
  return answer;
}

async function grant(form: Record<string, string>): Promise<string> {
  const answer = await checked(
    await fetch(`${realm()}/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams(form),
    }),
  );
  return ((await answer.json()) as { access_token: string }).access_token;
}

const backend = () =>
  grant({
    grant_type: 'client_credentials',
    client_id: stack('KEYCLOAK_CLIENT_ID'),
    client_secret: stack('KEYCLOAK_CLIENT_SECRET'),
  });

export interface Login {
  email: string;
  password: string;
}

/** A user of the realm with this role, of this tenant. */
export async function user(email: string, role: string, tenant?: string): Promise<Login> {
  const headers = {
    Authorization: `Bearer ${await backend()}`,
    'Content-Type': 'application/json',
  };
  const password = `Test-${crypto.randomUUID()}`;
  const made = await checked(
    await fetch(`${admin()}/users`, {
      method: 'POST',
      headers,
      body: JSON.stringify({
        username: email,
        email,
        emailVerified: true,
        enabled: true,
        firstName: 'Test',
        lastName: 'Person',
        credentials: [{ type: 'password', value: password, temporary: false }],
        ...(tenant ? { attributes: { tenant_id: [tenant] } } : {}),
      }),
    }),
  );
  const mappings = `${made.headers.get('Location')}/role-mappings/realm`;
  const available = await checked(await fetch(`${mappings}/available`, { headers }));
  const roles = ((await available.json()) as { name: string }[]).filter((one) => one.name === role);
  await checked(await fetch(mappings, { method: 'POST', headers, body: JSON.stringify(roles) }));
  return { email, password };
}

export const tokenOf = ({ email, password }: Login) =>
  grant({ grant_type: 'password', client_id: 'pulse-cli', username: email, password });

let staff: Promise<Login> | undefined;

/** A call of an operator. */
export async function operate<T>(method: string, path: string, body?: unknown): Promise<T> {
  staff ??= user(`op-${tag()}@pulse.example`, 'operator_admin');
  return await call(await tokenOf(await staff), method, path, body);
}

/** A call with this token. */
export async function call<T>(
  token: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const answer = await checked(
    await fetch(`${stack('API_URL')}/api/v1${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  );
  return (await answer.json()) as T;
}

/** Letters that no other test has. */
export const tag = () => crypto.randomUUID().slice(0, 8);

export interface Company extends Login {
  tenant: string;
  subscription: string;
}

interface CompanyOptions {
  devices?: number;
  /** Places for devices. */
  places?: number;
  days?: number;
  /** Slots by tier, instead of the plan's. */
  slots?: Record<number, number>;
  /** Without a subscription. */
  bare?: boolean;
}

/** A company with a MAIN that is paid by invoice, and a person who can sign in. */
export async function company(options: CompanyOptions = {}): Promise<Company> {
  const { devices = 0, days = 200, places = 260, slots = {} } = options;
  const name = `test-${tag()}`;
  await operate('POST', '/operator/tenants', {
    tenant_id: name,
    name: 'Northwind Sensors',
    country: 'SE',
    contact_email: `hello@${name}.example`,
    billing_email: `billing@${name}.example`,
  });
  const login = await user(`jane@${name}.example`, 'customer', name);
  if (options.bare) return { ...login, tenant: name, subscription: '' };
  const main = await operate<{ subscription_id: string }>('POST', '/operator/subscriptions', {
    tenant_id: name,
    subscription_type: 'MAIN',
    plan_id: 'pro',
    device_limit: places,
    term_days: days,
  });
  const id = main.subscription_id;
  await operate('POST', `/operator/subscriptions/${id}/sync-tier-allocations`, {});
  for (const [tier, slot_limit] of Object.entries(slots)) {
    await operate('PUT', `/operator/subscriptions/${id}/tier-allocations/${tier}`, { slot_limit });
  }
  await register(login, devices);
  return { ...login, tenant: name, subscription: main.subscription_id };
}

/** Registers DEV-001 and so on, a few at a time. */
async function register(login: Login, devices: number) {
  if (devices === 0) return;
  const token = await tokenOf(login);
  const numbers = Array.from({ length: devices }, (_, index) => index + 1);
  while (numbers.length > 0) {
    const batch = numbers.splice(0, 8).map((number) =>
      call(token, 'POST', '/customer/devices', {
        device_id: `DEV-${String(number).padStart(3, '0')}`,
        name: `Sensor ${number}`,
        site_id: number % 2 ? 'Hall A' : 'Hall B',
      }),
    );
    await Promise.all(batch);
  }
}
