/** What differs between deployments: `/config.json` beside the pages. Nothing in it is secret. */
export interface Config {
  api_url: string;
  issuer: string;
  client_id: string;
  stage: string;
  version: string;
}

/** The settings; `null` where they cannot be read, which `main.tsx` says. */
export const config: Config | null = await fetch('/config.json', { cache: 'no-cache' })
  .then((answer) => (answer.ok ? (answer.json() as Promise<Config>) : null))
  .catch(() => null);

/** The settings, where the page runs only because they are there. */
export function settings(): Config {
  if (!config) throw new Error('config.json cannot be read');
  return config;
}
