-- Who is logged in at the pages. The cookie's token itself is nowhere: only its SHA-256.
CREATE TABLE sessions (
    token TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    -- Of the password hash at the login: another password ends the session.
    stamp TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    seen_us BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_name, created_us);
