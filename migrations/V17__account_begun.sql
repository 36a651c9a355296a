-- The mail address whose user a step began to make, recorded before Keycloak is asked to make it. A user that is there then is not the
-- step's, and no step takes it over (docs/events.md, "Outbox"). Steps that the release before began have none.
ALTER TABLE outbox_steps ADD COLUMN began_email text;

-- Of two unfinished steps for one address one makes the user.
CREATE UNIQUE INDEX outbox_steps_began ON outbox_steps (began_email) WHERE status = 'pending' AND began_email IS NOT NULL;
