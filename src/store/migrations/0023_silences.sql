-- What people do not want to hear of for a time, and why. Kept for a while after its end.
CREATE TABLE silences (
    id TEXT NOT NULL PRIMARY KEY,
    -- JSON: [{name, value, isRegex, isEqual}].
    matchers TEXT NOT NULL,
    starts_us BIGINT NOT NULL,
    ends_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    comment TEXT NOT NULL
);
CREATE INDEX silences_ends ON silences (ends_us);
-- What kind of excuse an incident's is: a cause of the ledger, silenced or inhibited.
ALTER TABLE incidents ADD COLUMN excused_why TEXT;
