-- Those who have to say that they live, see the section `heartbeat`.
CREATE TABLE heartbeats (
    id TEXT PRIMARY KEY,
    last_us BIGINT,              -- when it was last heard; NULL: never
    missing_us BIGINT            -- since when it is missing; NULL: it is not
);
-- The day (of the site) of which the daily sign of life was written, so that it is written once.
CREATE TABLE heartbeat_mails (
    id TEXT PRIMARY KEY,
    day TEXT NOT NULL            -- 2026-01-31
);
