-- What a redelivery needs to know of the tries before it (docs/events.md, "Redelivery").
ALTER TABLE stripe_events
    -- Tries that began and never came to a word, since the last one that did: their consumer died.
    ADD COLUMN lost_tries       integer NOT NULL DEFAULT 0 CHECK (lost_tries >= 0),
    ADD COLUMN transient_errors integer NOT NULL DEFAULT 0 CHECK (transient_errors >= 0),
    ADD COLUMN last_error       text,
    -- How often a person had it replayed: part of the replay's deduplication id.
    ADD COLUMN replays          integer NOT NULL DEFAULT 0 CHECK (replays >= 0);

-- A step that a person has tried again has its time anew (docs/events.md, "Outbox").
ALTER TABLE outbox_steps ADD COLUMN retried_at timestamptz;
