-- Until when a payment that is under way at Stripe, such as a bank debit, counts as one that comes
-- (docs/adr/0014-paused-pending-unpaid.md). Functions of the release before leave it empty, and
-- judge by the term alone, as they did.
ALTER TABLE subscriptions ADD COLUMN stripe_pending_until timestamptz;
