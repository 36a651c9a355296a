-- Operators list the mails of a subscription, the newest first.
CREATE INDEX outbox_steps_mails ON outbox_steps ((payload->>'subscription_id'), step_id DESC)
    WHERE kind = 'mail';
