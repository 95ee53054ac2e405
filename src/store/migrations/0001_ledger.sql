-- Attribution: intervals of one subject follow each other without overlap; the last one is open (until_us is NULL).
CREATE TABLE ledger_intervals (
    subject_kind TEXT NOT NULL,  -- service | camera | hotspot | dependency
    subject TEXT NOT NULL,
    agency TEXT NOT NULL,        -- as of the interval's start
    from_us BIGINT NOT NULL,
    until_us BIGINT,
    state TEXT NOT NULL,         -- up | down | unknown
    cause TEXT NOT NULL,         -- own | unknown | maintenance | a dependency's cause
    origin TEXT NOT NULL,        -- auto | person
    reason TEXT NOT NULL,
    PRIMARY KEY (subject_kind, subject, from_us)
);
CREATE INDEX ledger_intervals_agency ON ledger_intervals (agency, from_us);
-- When the daemon last said it was alive: what lies between that and its next start is unknown.
CREATE TABLE daemon_heartbeat (
    id BIGINT PRIMARY KEY,
    alive_us BIGINT NOT NULL
);
