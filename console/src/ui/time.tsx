import { useSetting } from './settings';
import { day, distance, instant, until } from './time.rule';

interface TimeProps {
  at: string;
  /** `end`: of a term, which its last day names. */
  as?: 'instant' | 'day' | 'end' | 'ago';
}

/** An instant; the other zone and the distance are in its title. */
export function Time({ at, as = 'instant' }: TimeProps) {
  const [zone] = useSetting('zone');
  const other = zone === 'utc' ? 'local' : 'utc';
  const away = distance(at, Date.now());
  const shown =
    as === 'ago'
      ? away
      : as === 'day'
        ? day(at, zone)
        : as === 'end'
          ? until(at, zone)
          : instant(at, zone);
  return (
    <time dateTime={at} title={`${instant(at, other)} · ${instant(at, zone)} · ${away}`}>
      {shown}
    </time>
  );
}
