-- What the in-process history remembers longer than a few minutes, hour by hour. An hour of a clock or of a series is one
-- row, written again while the hour lasts; a series has a row only for hours in which its value changed.
CREATE TABLE history_clocks (
    owner TEXT NOT NULL,         -- '': the sampler; else the rule that records
    hour BIGINT NOT NULL,        -- since 1970
    ticks TEXT NOT NULL,         -- base64: the times of the samples
    PRIMARY KEY (owner, hour)
);
CREATE TABLE history_series (
    id BIGINT PRIMARY KEY,
    owner TEXT NOT NULL,
    labels TEXT NOT NULL         -- JSON
);
CREATE TABLE history_runs (
    series BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    runs TEXT NOT NULL,          -- base64: times and values of the changes
    PRIMARY KEY (series, hour)
);
