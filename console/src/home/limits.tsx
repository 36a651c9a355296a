import type { Schemas } from '../api/client';
import { Meter } from '../ui/meter';
import { Time } from '../ui/time';

/** `alert_rules` as people write it. */
export const limitName = (name: string) => {
  const words = name.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** What else the plans limit, by name: a number, a feature, or any number. */
export function Limits({ of }: { of: Schemas['Entitlements'] }) {
  const names = Object.keys(of.limits).sort();
  if (names.length === 0) return null;
  return (
    <section className="card stack" aria-labelledby="limits">
      <h2 id="limits">What your plan includes</h2>
      {names.map((name) => {
        const limit = of.limits[name];
        const used = of.usage[name];
        if (typeof limit === 'number' && used) {
          return (
            <div key={name} className="stack tight">
              <Meter label={limitName(name)} used={used.used} limit={limit} />
              <span className="small quiet">
                Counted <Time at={used.as_of} as="ago" />
              </span>
            </div>
          );
        }
        return (
          <div key={name} className="row ends">
            <span className="label">{limitName(name)}</span>
            <span className="quiet">{limitText(limit ?? null)}</span>
          </div>
        );
      })}
    </section>
  );
}

/** A limit in words. */
export function limitText(limit: number | boolean | null): string {
  if (limit === true) return 'Included';
  if (limit === false) return 'Not included';
  if (limit === null) return 'Unlimited';
  return `Up to ${limit.toLocaleString('en')}`;
}
