-- The messages apart from what becomes of them: that a mail was sent is noted between two mails, and a row is rewritten
-- whole, with its 6 to 30 kB.
CREATE TABLE outbox_messages (
    id BIGINT PRIMARY KEY,         -- of the row in the outbox
    message TEXT NOT NULL          -- the complete bytes, ASCII
);
INSERT INTO outbox_messages (id, message) SELECT id, message FROM outbox;
ALTER TABLE outbox DROP COLUMN message;
