-- Incidents: the alerts of one group (by default agency and area) that are handled together.
CREATE TABLE incidents (
    id BIGINT PRIMARY KEY,
    group_key TEXT NOT NULL,       -- the values of incidents.group_by
    agency TEXT NOT NULL,
    area TEXT NOT NULL,
    severity TEXT NOT NULL,        -- the highest it had: critical | warning
    subject TEXT NOT NULL,         -- in one line and the site's language; '' before the first mail
    opened_us BIGINT NOT NULL,
    resolved_us BIGINT,            -- all its alerts ended
    closed_us BIGINT,              -- a new alert opens a new incident
    changed_us BIGINT,             -- since when there is something to tell
    first_mail_us BIGINT,
    last_mail_us BIGINT,
    mails BIGINT NOT NULL,         -- rounds of mails written
    told TEXT NOT NULL             -- JSON: fingerprints last told as firing
);
CREATE INDEX incidents_open ON incidents (group_key) WHERE closed_us IS NULL;
CREATE INDEX incidents_agency ON incidents (agency, opened_us);

-- Every alert that was received and fired, as of its last change. incident 0: recorded only (severity info, Watchdog).
CREATE TABLE alerts (
    incident BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    severity TEXT NOT NULL,
    labels TEXT NOT NULL,          -- JSON
    annotations TEXT NOT NULL,     -- JSON
    generator_url TEXT NOT NULL,
    starts_us BIGINT NOT NULL,
    ends_us BIGINT,                -- announced end; NULL: until told otherwise
    resolved_us BIGINT,            -- NULL while it fires
    PRIMARY KEY (incident, fingerprint)
);

-- What happened in an incident, for people.
CREATE TABLE incident_timeline (
    incident BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    event TEXT NOT NULL,           -- opened | fired | ended | reopened | resolved | mailed | nobody | closed
    person TEXT NOT NULL,          -- '' where nobody is meant
    detail TEXT NOT NULL,
    PRIMARY KEY (incident, seq)
);

-- Whoever was told that it broke: is told that it ended, in the same thread.
CREATE TABLE incident_told (
    incident BIGINT NOT NULL,
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    language TEXT NOT NULL,
    subject TEXT NOT NULL,         -- of the first mail to this person, without its mark
    message_id TEXT NOT NULL,      -- of the first mail to this person
    told_us BIGINT NOT NULL,
    PRIMARY KEY (incident, person)
);

-- Mails that wait for the SMTP server, and those it took or refused. One row, one envelope, one person.
CREATE TABLE outbox (
    id BIGINT PRIMARY KEY,         -- in the order written
    thread TEXT NOT NULL,          -- mails of one thread go in order
    person TEXT NOT NULL,
    sender TEXT NOT NULL,          -- envelope addresses
    recipient TEXT NOT NULL,
    message_id TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL,         -- the complete bytes, ASCII
    created_us BIGINT NOT NULL,
    next_us BIGINT NOT NULL,       -- not before
    attempts BIGINT NOT NULL,
    sent_us BIGINT,
    gave_up_us BIGINT,
    last_error TEXT
);
CREATE INDEX outbox_waiting ON outbox (thread, id) WHERE sent_us IS NULL AND gave_up_us IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_us);
