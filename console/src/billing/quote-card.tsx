import { Button } from '../ui/button';
import { money } from '../ui/money';
import { Time } from '../ui/time';
import type { Quote } from './queries';

interface QuoteProps {
  quote: Quote | undefined;
  /** Stripe renews the slots together with the plan. */
  renews: boolean;
  loading: boolean;
  paying: boolean;
  onPay: () => void;
}

/** What the order costs, how that was calculated, and until when it lasts. */
export function QuoteCard({ quote, renews, loading, paying, onPay }: QuoteProps) {
  return (
    <section className="card stack tight" aria-labelledby="price" aria-busy={loading}>
      <h2 id="price">Price</h2>
      {quote ? (
        <>
          {quote.lines.map((line) => (
            <div key={line.tier_id}>
              <div className="row ends">
                <span>
                  {line.additional_slots} × {line.display_name}
                </span>
                <span className="number">{money(line.amount_cents, quote.currency)}</span>
              </div>
              <p className="small quiet number">{line.calculation} (in the smallest coin)</p>
            </div>
          ))}
          <div className="row ends" role="status">
            <span className="label">Now, before tax</span>
            <span className="total number">{money(quote.amount_cents, quote.currency)}</span>
          </div>
          <p className="small quiet">
            Until <Time at={quote.term_end} as="end" />: {quote.remaining_days}{' '}
            {quote.remaining_days === 1 ? 'day' : 'days'} of a {quote.interval} of{' '}
            {quote.period_days} days.{' '}
            {renews
              ? `After that they are renewed with your plan, at full price each ${quote.interval}.`
              : 'They end with the term; a new term takes them along.'}
          </p>
          <Button look="primary" busy={paying} onClick={onPay}>
            Pay {money(quote.amount_cents, quote.currency)}
          </Button>
        </>
      ) : (
        <p className="quiet" role="status">
          {loading ? 'Calculating …' : 'Choose slots, and the price appears here.'}
        </p>
      )}
    </section>
  );
}
