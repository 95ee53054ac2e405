-- What an alert says stands apart from its times: thousands may end and begin again at once, and each time the long row was
-- written with them. Both rows of an alert are written in one transaction.
ALTER TABLE alerts RENAME TO alerts_before;
CREATE TABLE alert_texts (
    incident BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    severity TEXT NOT NULL,
    labels TEXT NOT NULL,          -- JSON
    annotations TEXT NOT NULL,     -- JSON
    generator_url TEXT NOT NULL,
    PRIMARY KEY (incident, fingerprint)
);
INSERT INTO alert_texts (incident, fingerprint, severity, labels, annotations, generator_url)
SELECT incident, fingerprint, severity, labels, annotations, generator_url FROM alerts_before ORDER BY incident, fingerprint;
-- Every alert that was received and fired, as of its last change. incident 0: recorded only (severity info, Watchdog).
CREATE TABLE alerts (
    incident BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    starts_us BIGINT NOT NULL,
    ends_us BIGINT,                -- announced end; NULL: until told otherwise
    resolved_us BIGINT,            -- NULL while it fires
    excused_us BIGINT,             -- since when; NULL: not excused
    excused_cause TEXT,
    excused_by TEXT,               -- the dependency's name, or the reason of the maintenance
    freed_us BIGINT,               -- when the excuse ended, while group_wait counts from then
    dismissed_us BIGINT,           -- when a person said that it is over although its source still calls it firing
    PRIMARY KEY (incident, fingerprint)
);
INSERT INTO alerts
(incident, fingerprint, starts_us, ends_us, resolved_us, excused_us, excused_cause, excused_by, freed_us, dismissed_us)
SELECT incident, fingerprint, starts_us, ends_us, resolved_us, excused_us, excused_cause, excused_by, freed_us, dismissed_us
FROM alerts_before ORDER BY incident, fingerprint;
DROP TABLE alerts_before;
