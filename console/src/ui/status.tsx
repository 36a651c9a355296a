import type { Schemas } from '../api/client';

type Tone = 'good' | 'warn' | 'bad' | 'info' | '';

const STATUS: Record<Schemas['Status'], [string, Tone, string]> = {
  ACTIVE: ['Active', 'good', '●'],
  TRIAL: ['Trial', 'info', '◔'],
  GRACE: ['Payment overdue', 'warn', '▲'],
  SUSPENDED: ['Suspended', 'bad', '■'],
  EXPIRED: ['Ended', '', '○'],
};

/** A subscription's status: a sign and a word, and a colour. */
export function StatusBadge({ status }: { status: Schemas['Status'] }) {
  const [word, tone, sign] = STATUS[status];
  return (
    <span className={`badge ${tone}`}>
      <span aria-hidden="true">{sign}</span>
      {word}
    </span>
  );
}

const TYPE: Record<Schemas['SubscriptionType'], string> = {
  MAIN: 'Main',
  ADDON: 'Extra slots',
  TRIAL: 'Trial',
  TEMPORARY: 'Temporary',
};

export const typeName = (type: Schemas['SubscriptionType']) => TYPE[type];
