-- Nothing asks the ledger by agency; of a fleet that comes and goes the index was a quarter of what its rows cost.
DROP INDEX ledger_intervals_agency;
