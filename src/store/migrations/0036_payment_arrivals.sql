-- Rows of payment feeds that are not yet in the ledger. A file of a million rows is put down here as it is read, and taken
-- into the ledger in the order of its keys: a page of the ledger is written once for all rows that belong there.
CREATE TABLE payment_arrivals (
    id BIGINT PRIMARY KEY,         -- in the order of arrival
    part BIGINT NOT NULL,          -- rows of a greater part have, as a rule, greater keys
    n BIGINT NOT NULL,             -- how many rows
    content TEXT NOT NULL          -- JSON, see gather/payment/arrivals.rs
);
CREATE INDEX payment_arrivals_part ON payment_arrivals (part, id, n);
