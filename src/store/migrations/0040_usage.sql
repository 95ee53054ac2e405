-- Users and events of applications, by period. `event` is empty for the number of active users.
CREATE TABLE usage_counts (
    app TEXT NOT NULL,
    agency TEXT NOT NULL,
    event TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    value BIGINT NOT NULL,     -- as last reported
    counted BIGINT NOT NULL,   -- the most it ever was: what the total holds, since counters do not go down
    PRIMARY KEY (app, agency, event, from_us, to_us)
);
CREATE INDEX usage_counts_to ON usage_counts (to_us);
CREATE TABLE usage_totals (
    app TEXT NOT NULL,
    agency TEXT NOT NULL,
    event TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (app, agency, event)
);
CREATE TABLE dossier_counts (
    agency TEXT NOT NULL,
    source TEXT NOT NULL,      -- the application that reports: two may count the same step
    procedure_code TEXT NOT NULL,
    step TEXT NOT NULL,
    channel TEXT NOT NULL,
    outcome TEXT NOT NULL,
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    value BIGINT NOT NULL,
    counted BIGINT NOT NULL,
    PRIMARY KEY (agency, source, procedure_code, step, channel, outcome, from_us, to_us)
);
CREATE TABLE dossier_totals (
    agency TEXT NOT NULL,
    step TEXT NOT NULL,
    channel TEXT NOT NULL,
    outcome TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (agency, step, channel, outcome)
);
