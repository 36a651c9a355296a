import { use } from './meter.rule';

interface MeterProps {
  label: string;
  used: number;
  limit: number;
  /** More is used than was paid for. */
  over?: boolean;
}

/** How much of what was paid for is used: words, numbers and a bar, never colour alone. */
export function Meter({ label, used, limit, over }: MeterProps) {
  const { tone, percent, word } = use(used, limit, over);
  return (
    <div className={`meter ${tone}`}>
      <div className="row ends">
        <span className="label">{label}</span>
        <span className="number quiet small">
          <b>{used.toLocaleString('en')}</b> of {limit.toLocaleString('en')}
          {word ? ` · ${word}` : ''}
        </span>
      </div>
      {/* biome-ignore lint/a11y/useSemanticElements: a <meter> cannot be drawn alike everywhere */}
      <div
        className="bar"
        role="meter"
        aria-label={label}
        aria-valuenow={Math.min(used, limit)}
        aria-valuemin={0}
        aria-valuemax={Math.max(limit, 1)}
        aria-valuetext={`${used} of ${limit} used${word ? `, ${word}` : ''}`}
      >
        <div style={{ width: `${percent}%` }} />
      </div>
    </div>
  );
}
