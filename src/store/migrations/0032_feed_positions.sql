-- Where each feed stands: what an http or sql feed asks for next, and for every feed when rows last came.
CREATE TABLE feed_positions (
    feed TEXT NOT NULL PRIMARY KEY,
    mapping TEXT NOT NULL,          -- digest of what is asked and how columns are read: after a change it begins anew
    position TEXT NOT NULL,         -- JSON of the kind of feed; empty: at the beginning
    kept_file TEXT NOT NULL,        -- the file of rejected rows that belongs to this position, and its length
    kept_bytes BIGINT NOT NULL,
    since_us BIGINT NOT NULL,       -- when the feed was first seen
    rows_us BIGINT NOT NULL         -- when rows last came; 0: never
);
