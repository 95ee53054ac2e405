-- By which way a message goes, and what it is about: who sees an agency sees its messages.
ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'mail';  -- mail | webhook
ALTER TABLE outbox ADD COLUMN agency TEXT NOT NULL DEFAULT '';       -- '': the whole site's
ALTER TABLE outbox ADD COLUMN incident BIGINT;                       -- NULL: of none
-- Servers after ours reported that they could not deliver it.
ALTER TABLE outbox ADD COLUMN bounced_us BIGINT;
-- Whoever wrote it knows that it did not arrive.
ALTER TABLE outbox ADD COLUMN noted_us BIGINT;
-- What failed before anybody was told of failures is past.
UPDATE outbox SET noted_us = gave_up_us WHERE gave_up_us IS NOT NULL;
CREATE INDEX outbox_failed ON outbox (id) WHERE noted_us IS NULL AND (gave_up_us IS NOT NULL OR bounced_us IS NOT NULL);
