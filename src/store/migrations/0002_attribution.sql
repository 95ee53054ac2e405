-- What a cause is named after: a dependency's id, the reason of a maintenance, or nothing.
ALTER TABLE ledger_intervals ADD COLUMN blamed TEXT NOT NULL DEFAULT '';
CREATE INDEX ledger_intervals_until ON ledger_intervals (until_us);
-- Maintenance announced through the API. Rows are never deleted; a cancelled one ended at cancelled_us.
CREATE TABLE maintenance (
    id BIGINT PRIMARY KEY,
    scope TEXT NOT NULL,           -- JSON: ids by services, devices, sites, agencies, dependencies
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,         -- as announced
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    cancelled_us BIGINT,
    cancelled_by TEXT
);
CREATE INDEX maintenance_to ON maintenance (to_us);
