-- Mails that are not sent by themselves but told in one with others: in a person's digest, or because there were too many.
CREATE TABLE outbox_held (
    id BIGINT PRIMARY KEY,         -- of the same sequence as those of the outbox
    why TEXT NOT NULL,             -- digest | limit
    person TEXT NOT NULL,
    name TEXT NOT NULL,
    recipient TEXT NOT NULL,
    language TEXT NOT NULL,        -- vi | en
    thread TEXT NOT NULL,
    subject TEXT NOT NULL,
    url TEXT NOT NULL,
    urgent BIGINT NOT NULL,
    agency TEXT NOT NULL,
    incident BIGINT,
    created_us BIGINT NOT NULL,
    due_us BIGINT NOT NULL,        -- when it is told
    summary BIGINT                 -- the mail in the outbox that told it; NULL while it waits
);
CREATE INDEX outbox_held_waiting ON outbox_held (due_us) WHERE summary IS NULL;
CREATE INDEX outbox_held_summary ON outbox_held (summary);
-- What a person's limit has left, see mail/limit.rs.
CREATE TABLE outbox_spent (
    person TEXT PRIMARY KEY,
    spent_us BIGINT NOT NULL
);
