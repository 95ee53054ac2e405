-- When a count was last corrected, as its feed says (0: it does not). The latest correction holds, in whatever order they come.
ALTER TABLE usage_counts ADD COLUMN updated_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dossier_counts ADD COLUMN updated_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX dossier_counts_from ON dossier_counts (from_us);
-- Single dossiers as they stand. Their steps are counted by day in dossier_counts as well. 0 is "not yet".
CREATE TABLE usage_dossiers (
    source TEXT NOT NULL,           -- the application that reports
    dossier TEXT NOT NULL,
    agency TEXT NOT NULL,
    procedure_code TEXT NOT NULL,
    submitted_us BIGINT NOT NULL,
    submitted_channel TEXT NOT NULL,
    receipted_us BIGINT NOT NULL,
    due_us BIGINT NOT NULL,
    processed_us BIGINT NOT NULL,
    processed_channel TEXT NOT NULL,
    paid_us BIGINT NOT NULL,
    paid_channel TEXT NOT NULL,
    returned_us BIGINT NOT NULL,
    returned_channel TEXT NOT NULL,
    apology_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,     -- of two rows of a dossier the later one holds
    is_open BIGINT NOT NULL,        -- 1 until it is processed or returned
    PRIMARY KEY (source, dossier)
);
CREATE INDEX usage_dossiers_open ON usage_dossiers (is_open, source);
