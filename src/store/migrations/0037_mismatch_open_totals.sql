-- The open mismatches of each agency and kind, counted and summed as they come and go: to ask costs the same however many
-- there are.
ALTER TABLE payment_mismatch_totals ADD COLUMN n_open BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payment_mismatch_totals ADD COLUMN open_amount BIGINT NOT NULL DEFAULT 0; -- dong
INSERT INTO payment_mismatch_totals (agency, kind, opened, resolved, n_open, open_amount)
SELECT agency, kind, COUNT(*), 0, COUNT(*), SUM(amount) FROM payment_mismatches WHERE closed_us IS NULL
GROUP BY agency, kind
ON CONFLICT (agency, kind) DO UPDATE SET n_open = excluded.n_open, open_amount = excluded.open_amount;
