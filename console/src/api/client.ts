/** Every call to the API: by operation, with the token, retries, and one shape of refusal. */
import createClient from 'openapi-fetch';
import { renew, signIn, token } from '../auth/session';
import { config } from '../config';
import { type Refusal, refusal, unreachable } from './problem';
import type { components, paths } from './schema.gen';
import { wait } from './wait';

export type Schemas = components['schemas'];

const TRIES = 3;
/** The longest time that is waited in place; a longer `Retry-After` is the person's to decide. */
const LONGEST_WAIT = 30;

/** The operations of the document. */
export const api = createClient<paths>({ baseUrl: config?.api_url ?? '', fetch: send });

/** Whether the same request may be sent again: it changes nothing twice. */
function repeatable(request: Request): boolean {
  const { method, headers } = request;
  return (
    ['GET', 'PUT'].includes(method) || headers.has('If-Match') || headers.has('Idempotency-Key')
  );
}

async function send(request: Request): Promise<Response> {
  for (let attempt = 1; ; attempt += 1) {
    const last = attempt >= TRIES || !repeatable(request);
    let answer: Response;
    try {
      answer = await authorized(request);
    } catch (error) {
      if (request.signal.aborted) throw error;
      if (last) throw unreachable();
      await pause(attempt);
      continue;
    }
    const again =
      [429, 502, 503, 504].includes(answer.status) ||
      (answer.status === 409 && answer.headers.has('Retry-After'));
    if (!again || last) return answer;
    const seconds = Number(answer.headers.get('Retry-After') ?? 0);
    if (seconds > LONGEST_WAIT) return answer;
    await (seconds > 0 ? wait(seconds) : pause(attempt));
  }
}

/** Sends with a valid token; a 401 renews it once, and then asks the person to sign in. */
async function authorized(request: Request): Promise<Response> {
  const attempt = async () => {
    const bearer = await token();
    if (!bearer) return null;
    const copy = request.clone();
    copy.headers.set('Authorization', `Bearer ${bearer}`);
    return await fetch(copy);
  };
  const first = await attempt();
  if (first && first.status !== 401) return first;
  if (first && (await renew())) {
    const second = await attempt();
    if (second && second.status !== 401) return second;
  }
  await signIn();
  // The page is left: nobody reads this answer.
  return await new Promise<Response>(() => {});
}

const pause = (attempt: number) => new Promise((done) => setTimeout(done, 300 * attempt));

/** The body of an answer; a refusal is thrown. */
export async function take<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw refusal(response, error);
  return data as T;
}

/** The header of a write to this version. */
export const ifMatch = (version: number) => ({ 'If-Match': `"${version}"` });

/**
 * One `Idempotency-Key` an intention: the same body asked again has the same key, also after a
 * lost answer; another body is another intention.
 */
export class Intention {
  #body = '';
  #key = '';

  header(body: unknown): { 'Idempotency-Key': string } {
    const text = JSON.stringify(body);
    if (text !== this.#body || !this.#key) {
      this.#body = text;
      this.#key = crypto.randomUUID();
    }
    return { 'Idempotency-Key': this.#key };
  }

  /** After success: what is asked next is a new intention. */
  done() {
    this.#key = '';
  }
}

export type { Refusal };
