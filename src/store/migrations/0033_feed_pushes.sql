-- What was answered to whom, so that a push that is sent again gets the same answer and writes nothing.
CREATE TABLE feed_pushes (
    feed TEXT NOT NULL,
    sender TEXT NOT NULL,           -- the token's name
    push_key TEXT NOT NULL,         -- its Idempotency-Key
    digest TEXT NOT NULL,           -- SHA-256 of the body
    status BIGINT NOT NULL,
    answer TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (feed, sender, push_key)
);
CREATE INDEX feed_pushes_at ON feed_pushes (feed, at_us);
