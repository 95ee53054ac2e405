-- Of several daemons on one PostgreSQL one leads. (With SQLite a lock in the data directory lets one run alone.)
-- The term: every transaction of the leader holds this row for itself until its end, and is refused once the number is
-- no longer its own.
CREATE TABLE leadership (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL
);
INSERT INTO leadership (id, epoch) VALUES (1, 0);
-- How long the term lasts unless it is renewed. Apart from the row above, so that renewing never waits for a long
-- transaction.
CREATE TABLE leadership_lease (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL,        -- the mark of the holder's connections
    name TEXT NOT NULL,          -- for people
    expires_us BIGINT NOT NULL   -- by the clock of the database; 0: given back
);
INSERT INTO leadership_lease (id, epoch, holder, name, expires_us) VALUES (1, 0, '', '', 0);
-- Daemons that run or were not stopped properly, as they last said themselves.
CREATE TABLE daemons (
    name TEXT PRIMARY KEY,
    seen_us BIGINT NOT NULL      -- by the clock of the database
);
