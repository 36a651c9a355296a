-- The hourly run (docs/renewals.md): what it looks for, what it leaves, and what operators tell it. Only adds, but for one NOT NULL that no
-- function relied on: functions of the release before run on.

-- ── What is due ─────────────────────────────────────────────────────────────────────────────────────────────────

-- When the run looks at a subscription's notices again. It counts only for the term that it was written for: another term, and the
-- subscription is looked at at once, whoever wrote it. Null: nothing more is due for this term.
ALTER TABLE subscriptions
    ADD COLUMN noticed_term_end timestamptz,
    ADD COLUMN next_notice_at   timestamptz;
CREATE INDEX subscriptions_notice_due
    ON subscriptions ((CASE WHEN noticed_term_end = term_end THEN next_notice_at ELSE '-infinity'::timestamptz END), subscription_id)
    WHERE status IN ('ACTIVE', 'TRIAL') AND parent_subscription_id IS NULL;
-- Terms that end are found by subscriptions_status_term.
CREATE INDEX subscriptions_grace_due ON subscriptions (grace_end, subscription_id) WHERE status = 'GRACE';

-- An operator's count by hand is shown as it differs, and not corrected until somebody reconciles.
ALTER TABLE subscription_tier_allocations ADD COLUMN counted_by_hand boolean NOT NULL DEFAULT false;

-- Old payloads are dropped; what still waits for somebody keeps its own.
CREATE INDEX stripe_events_old_payloads ON stripe_events (recorded_at)
    WHERE payload IS NOT NULL AND status IN ('applied', 'ignored', 'dismissed');

-- ── Mails ───────────────────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE outbox_steps DROP CONSTRAINT outbox_steps_kind_check;
ALTER TABLE outbox_steps ADD CONSTRAINT outbox_steps_kind_check
    CHECK (kind IN ('keycloak_user', 'welcome_mail', 'stripe_cancel', 'stripe_addon_quantity', 'stripe_sync', 'mail'));
-- The operators' digest is nobody's.
ALTER TABLE outbox_steps ALTER COLUMN tenant_id DROP NOT NULL;
ALTER TABLE outbox_steps ADD CONSTRAINT outbox_steps_tenant CHECK (tenant_id IS NOT NULL OR kind = 'mail');
-- A login goes before ten thousand notices.
CREATE INDEX outbox_steps_next ON outbox_steps ((kind = 'mail'), next_attempt_at) WHERE status = 'pending';
DROP INDEX outbox_steps_due;

-- ── The run ─────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE renewal_runs (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL,
    -- Another hour than its own, where it rehearsed one.
    as_of        timestamptz NOT NULL,
    -- Who asked for it; null: the schedule.
    requested_by text,
    -- 'running' for long is a run that died: what it did is done, the rest is the next one's.
    status       text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'stopped', 'failed')),
    -- Graces and suspensions, written with each chunk: what the breaker has seen of the last day. Those by an operator's word count there.
    counted      integer NOT NULL DEFAULT 0 CHECK (counted >= 0),
    summary      jsonb,
    finished_at  timestamptz
);
CREATE INDEX renewal_runs_started ON renewal_runs (started_at DESC, run_id DESC);

-- An operator's word that so many may lose access after all.
CREATE TABLE renewal_approvals (
    approval_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    approved_at   timestamptz NOT NULL,
    approved_by   text NOT NULL,
    approve_until timestamptz NOT NULL,
    max_count     integer NOT NULL CHECK (max_count > 0),
    used          integer NOT NULL DEFAULT 0 CHECK (used >= 0),
    note          text NOT NULL
);

-- Where a part that goes through everything in slices goes on.
CREATE TABLE renewal_cursors (
    part       text PRIMARY KEY,
    position   text,
    updated_at timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE ON renewal_runs, renewal_cursors TO pulse_system;
GRANT SELECT, UPDATE ON renewal_approvals TO pulse_system;
GRANT SELECT ON renewal_runs, renewal_approvals TO pulse_operator;
GRANT INSERT ON renewal_approvals TO pulse_operator;
