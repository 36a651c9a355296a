/** The sign-in: code + PKCE at the issuer. Tokens are in memory only; a reload asks the issuer. */
import { InMemoryWebStorage, type User, UserManager, WebStorageStateStore } from 'oidc-client-ts';
import { settings } from '../config';

const SIGNED_OUT = '/signed-out';
/** A token with less time than this is renewed before it is sent. */
const MARGIN_SECONDS = 20;

let manager: UserManager | undefined;
let user: User | null = null;
let renewal: Promise<boolean> | undefined;

function issuer(): UserManager {
  manager ??= new UserManager({
    authority: settings().issuer,
    client_id: settings().client_id,
    redirect_uri: `${location.origin}/`,
    post_logout_redirect_uri: `${location.origin}${SIGNED_OUT}`,
    scope: 'openid profile email',
    automaticSilentRenew: false,
    userStore: new WebStorageStateStore({ store: new InMemoryWebStorage() }),
    // The verifier of a sign-in that is under way has to outlive the redirect. No token is here.
    stateStore: new WebStorageStateStore({ store: sessionStorage }),
  });
  return manager;
}

/** What the page does first: `signed-in`, `leaving` for the issuer, or `signed-out`. */
export async function begin(): Promise<'signed-in' | 'leaving' | 'signed-out'> {
  const query = new URLSearchParams(location.search);
  if (query.has('state') && (query.has('code') || query.has('error'))) {
    try {
      user = await issuer().signinRedirectCallback();
    } catch (error) {
      // A bookmarked or repeated answer of the issuer: its state is used up, so start again.
      if (query.has('error')) throw error;
      history.replaceState(null, '', '/');
      return await signIn();
    }
    const { path } = (user.state ?? {}) as { path?: string };
    history.replaceState(null, '', path?.startsWith('/') ? path : '/');
    return 'signed-in';
  }
  if (location.pathname === SIGNED_OUT) return 'signed-out';
  return await signIn();
}

/** Leaves for the issuer's page; the address of now is where the person comes back to. */
export async function signIn(again = false): Promise<'leaving'> {
  const here = location.pathname === SIGNED_OUT ? '/' : location.pathname + location.search;
  await issuer().signinRedirect({ state: { path: here }, ...(again ? { prompt: 'login' } : {}) });
  return 'leaving';
}

/** Ends the session here and at the issuer. */
export async function signOut(): Promise<void> {
  const token = user?.id_token;
  user = null;
  sessionStorage.clear();
  await issuer().signoutRedirect(token ? { id_token_hint: token } : {});
}

/** A token that still counts; `null` once the person has to sign in again. */
export async function token(): Promise<string | null> {
  if (!user) return null;
  if ((user.expires_in ?? 0) < MARGIN_SECONDS && !(await renew())) return null;
  return user.access_token;
}

/** Renews the tokens once, for all callers that want it now. */
export function renew(): Promise<boolean> {
  renewal ??= refresh().finally(() => {
    renewal = undefined;
  });
  return renewal;
}

async function refresh(): Promise<boolean> {
  // Without a refresh token the library would open an iframe, which other sites' cookies forbid.
  if (!user?.refresh_token) return false;
  try {
    user = await issuer().signinSilent();
    return user !== null;
  } catch {
    return false;
  }
}

/** The address of who is signed in, by the ID token; what they may do is the API's to say. */
export const email = () => user?.profile.email ?? user?.profile.preferred_username ?? '';
