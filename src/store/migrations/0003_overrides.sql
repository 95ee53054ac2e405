-- Causes that a person gave instead of the automatic one, for the downtime of a stretch of time. The automatic intervals
-- stay as they are; where overrides overlap the highest id holds. Rows are never deleted.
CREATE TABLE ledger_overrides (
    id BIGINT PRIMARY KEY,
    subject_kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    cause TEXT NOT NULL,
    origin TEXT NOT NULL,          -- person
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    withdrawn_us BIGINT,
    withdrawn_by TEXT
);
CREATE INDEX ledger_overrides_subject ON ledger_overrides (subject_kind, subject, from_us);
