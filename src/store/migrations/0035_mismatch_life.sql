-- Why a mismatch was opened and what closed it: what both sides said at that moment, as JSON
-- {"portal": {"status": …, "amount": …, "at": microseconds} | null, "gateway": …}; empty for those of earlier versions.
ALTER TABLE payment_mismatches ADD COLUMN opened_facts TEXT NOT NULL DEFAULT '';
ALTER TABLE payment_mismatches ADD COLUMN closed_facts TEXT NOT NULL DEFAULT '';
CREATE INDEX payment_mismatches_dossier ON payment_mismatches (dossier);
