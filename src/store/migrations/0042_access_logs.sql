-- Where each access log is read on.
CREATE TABLE access_logs (
    app TEXT NOT NULL PRIMARY KEY,
    inode BIGINT NOT NULL,
    written_us BIGINT NOT NULL,
    previous_inode BIGINT NOT NULL,
    offset_bytes BIGINT NOT NULL,
    head TEXT NOT NULL,             -- SHA-256 of the content's first bytes
    line BIGINT NOT NULL,
    is_skipping BIGINT NOT NULL,
    rejected_day TEXT NOT NULL,     -- of the file of rejected lines, and its length
    rejected_bytes BIGINT NOT NULL,
    closed_day TEXT NOT NULL        -- users of this day and those before are not counted any more; empty: none is
);
-- Lines by what became of them, so that the counters survive a restart.
CREATE TABLE access_log_lines (
    app TEXT NOT NULL,
    result TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (app, result)
);
-- Days whose users are still being counted. Visitors are known by a hash with the day's random key; the key and all hashes are
-- overwritten and deleted when the day is over, so that nobody can be found in what is left.
CREATE TABLE access_log_days (
    app TEXT NOT NULL,
    day TEXT NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (app, day)
);
CREATE TABLE access_log_users (
    app TEXT NOT NULL,
    day TEXT NOT NULL,
    agency TEXT NOT NULL,
    sketch TEXT NOT NULL,
    PRIMARY KEY (app, day, agency)
);
