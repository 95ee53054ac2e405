-- How far the escalation of an incident has come: who was asked, who answered. JSON; '' before its first mail.
ALTER TABLE incidents ADD COLUMN escalation TEXT NOT NULL DEFAULT '';
-- When a person said that an alert is over although its source still calls it firing.
ALTER TABLE alerts ADD COLUMN dismissed_us BIGINT;
