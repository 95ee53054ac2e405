-- One row a week that was evaluated; never changed afterwards.
CREATE TABLE evaluation_reports (
    week TEXT PRIMARY KEY,       -- 2026-W47
    from_us BIGINT NOT NULL,
    to_us BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    language TEXT NOT NULL,      -- of html: vi | en
    profile TEXT NOT NULL,       -- JSON: names, indicators, targets and weights as of then
    html TEXT NOT NULL,
    sha256 TEXT NOT NULL         -- of html, hexadecimal
);
-- What was measured. With the profile it gives the report again.
CREATE TABLE evaluation_values (
    week TEXT NOT NULL,
    agency TEXT NOT NULL,
    indicator TEXT NOT NULL,
    numerator DOUBLE PRECISION,
    denominator DOUBLE PRECISION,
    value DOUBLE PRECISION,
    coverage DOUBLE PRECISION,
    excused DOUBLE PRECISION,    -- hours
    missing TEXT NOT NULL,       -- '' when evaluated; no_data | coverage | min | query
    PRIMARY KEY (week, agency, indicator)
);
