-- The payment ledger: the latest state of each transaction on each side.
CREATE TABLE payment_rows (
    txn_ref TEXT NOT NULL,
    side TEXT NOT NULL,        -- portal | gateway
    agency TEXT NOT NULL,      -- empty: the row does not say
    dossier TEXT NOT NULL,     -- empty: the row does not say
    amount BIGINT NOT NULL,    -- dong
    status TEXT NOT NULL,      -- paid | settled | pending | failed | refunded | reversed
    at_us BIGINT NOT NULL,
    refund_of TEXT NOT NULL,   -- the transaction this row gives back; empty: none
    PRIMARY KEY (txn_ref, side)
);
CREATE INDEX payment_rows_refund_of ON payment_rows (refund_of) WHERE refund_of <> '';
CREATE INDEX payment_rows_dossier ON payment_rows (dossier) WHERE dossier <> '';
-- Transactions that become a mismatch at due_us unless something arrives before.
CREATE TABLE payment_due (
    txn_ref TEXT PRIMARY KEY,
    due_us BIGINT NOT NULL
);
CREATE INDEX payment_due_due ON payment_due (due_us);
-- The life of every mismatch; closed_us is NULL while it is open.
CREATE TABLE payment_mismatches (
    txn_ref TEXT NOT NULL,
    opened_us BIGINT NOT NULL,
    kind TEXT NOT NULL,
    agency TEXT NOT NULL,
    dossier TEXT NOT NULL,
    amount BIGINT NOT NULL,
    since_us BIGINT NOT NULL,  -- when the money moved, not when it was noticed
    changes TEXT NOT NULL,     -- JSON: [{"at": microseconds, "kind": …, "agency": …, "amount": …}], what it was before
    closed_us BIGINT,
    closed_by TEXT NOT NULL,   -- empty while open | matched | money_back | withdrawn
    PRIMARY KEY (txn_ref, opened_us)
);
CREATE UNIQUE INDEX payment_mismatches_one_open ON payment_mismatches (txn_ref) WHERE closed_us IS NULL;
CREATE INDEX payment_mismatches_open ON payment_mismatches (agency, kind, since_us) WHERE closed_us IS NULL;
CREATE INDEX payment_mismatches_time ON payment_mismatches (opened_us);
-- Counters that outlive a restart.
CREATE TABLE payment_mismatch_totals (
    agency TEXT NOT NULL,
    kind TEXT NOT NULL,
    opened BIGINT NOT NULL,
    resolved BIGINT NOT NULL,
    PRIMARY KEY (agency, kind)
);
CREATE TABLE payment_record_totals (
    agency TEXT NOT NULL,
    side TEXT NOT NULL,
    status TEXT NOT NULL,
    records BIGINT NOT NULL,
    PRIMARY KEY (agency, side, status)
);
