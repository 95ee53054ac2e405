-- Secrets that the daemon made for itself at its first start, such as the one that signs the links in mails.
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    -- In hexadecimal.
    secret TEXT NOT NULL,
    created_us BIGINT NOT NULL
);
