-- The payment ledger, one row a transaction, replaces one row a side: both sides are read, judged and written together.
CREATE TABLE payment_transactions (
    txn_ref TEXT PRIMARY KEY,      -- of a record without one: '? ' and its dossier, amount and time
    dossier TEXT NOT NULL,         -- the portal's word, else the gateway's; empty: neither says
    due_us BIGINT,                 -- when it is judged (again); 0: at once; NULL: not before something arrives
    portal_status TEXT NOT NULL,   -- paid | settled | pending | failed | refunded | reversed; empty: the portal has no record
    portal_amount BIGINT NOT NULL, -- dong
    portal_us BIGINT NOT NULL,
    portal_agency TEXT NOT NULL,   -- empty: the record does not say; so below
    portal_dossier TEXT NOT NULL,
    portal_refund_of TEXT NOT NULL,-- the transaction that this one gives back
    portal_procedure TEXT NOT NULL,
    portal_channel TEXT NOT NULL,  -- online | other
    gateway_status TEXT NOT NULL,
    gateway_amount BIGINT NOT NULL,
    gateway_us BIGINT NOT NULL,
    gateway_agency TEXT NOT NULL,
    gateway_dossier TEXT NOT NULL,
    gateway_refund_of TEXT NOT NULL,
    gateway_procedure TEXT NOT NULL,
    gateway_channel TEXT NOT NULL
);
INSERT INTO payment_transactions (txn_ref, dossier, due_us,
    portal_status, portal_amount, portal_us, portal_agency, portal_dossier, portal_refund_of, portal_procedure, portal_channel,
    gateway_status, gateway_amount, gateway_us, gateway_agency, gateway_dossier, gateway_refund_of, gateway_procedure, gateway_channel)
SELECT known.txn_ref, COALESCE(NULLIF(p.dossier, ''), g.dossier, ''), 0,
    COALESCE(p.status, ''), COALESCE(p.amount, 0), COALESCE(p.at_us, 0), COALESCE(p.agency, ''), COALESCE(p.dossier, ''), COALESCE(p.refund_of, ''), '', '',
    COALESCE(g.status, ''), COALESCE(g.amount, 0), COALESCE(g.at_us, 0), COALESCE(g.agency, ''), COALESCE(g.dossier, ''), COALESCE(g.refund_of, ''), '', ''
FROM (SELECT DISTINCT txn_ref FROM payment_rows) known
LEFT JOIN payment_rows p ON p.txn_ref = known.txn_ref AND p.side = 'portal'
LEFT JOIN payment_rows g ON g.txn_ref = known.txn_ref AND g.side = 'gateway';
DROP TABLE payment_rows;
DROP TABLE payment_due;
CREATE INDEX payment_transactions_dossier ON payment_transactions (dossier) WHERE dossier <> '';
CREATE INDEX payment_transactions_due ON payment_transactions (due_us) WHERE due_us IS NOT NULL;
CREATE INDEX payment_transactions_portal_refund ON payment_transactions (portal_refund_of) WHERE portal_refund_of <> '';
CREATE INDEX payment_transactions_gateway_refund ON payment_transactions (gateway_refund_of) WHERE gateway_refund_of <> '';
-- One row a side, for whoever asks of a side alone.
CREATE VIEW payment_rows AS
SELECT txn_ref, 'portal' AS side, portal_agency AS agency, portal_dossier AS dossier, portal_amount AS amount,
    portal_status AS status, portal_us AS at_us, portal_refund_of AS refund_of
FROM payment_transactions WHERE portal_status <> ''
UNION ALL
SELECT txn_ref, 'gateway' AS side, gateway_agency AS agency, gateway_dossier AS dossier, gateway_amount AS amount,
    gateway_status AS status, gateway_us AS at_us, gateway_refund_of AS refund_of
FROM payment_transactions WHERE gateway_status <> '';
-- Codes that so many payments bear that they cannot be one dossier ("N/A"): their transactions are judged one by one.
CREATE TABLE payment_crowds (
    dossier TEXT PRIMARY KEY
);
-- What the register of dossiers knows.
CREATE TABLE payment_dossiers (
    dossier TEXT PRIMARY KEY,
    agency TEXT NOT NULL,
    procedure_code TEXT NOT NULL,
    channel TEXT NOT NULL
);
-- The settings everything was last judged by: when they change, everything is judged again.
CREATE TABLE payment_settings (
    id BIGINT PRIMARY KEY,         -- always 1
    digest TEXT NOT NULL
);
