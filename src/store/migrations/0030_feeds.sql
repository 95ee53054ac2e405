-- File contents a feed has read or is reading. The content, not the name, says whether a file is new.
CREATE TABLE feed_files (
    feed TEXT NOT NULL,
    hash TEXT NOT NULL,             -- SHA-256 of the content, hexadecimal
    file TEXT NOT NULL,             -- the name it was last seen under, with its size and time: saves hashing it again
    size BIGINT NOT NULL,
    modified_us BIGINT NOT NULL,
    mapping TEXT NOT NULL,          -- digest of how the feed's columns were read: what was rejected is tried again after a change
    state TEXT NOT NULL,            -- reading | done | refused
    offset_bytes BIGINT NOT NULL,   -- the next record begins here, in this line
    line BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    rejected_bytes BIGINT NOT NULL, -- length of the file of rejected rows that belongs to this position
    seen_us BIGINT NOT NULL,
    PRIMARY KEY (feed, hash)
);
CREATE INDEX feed_files_file ON feed_files (feed, file);
