"""The same work in DuckDB: reconcile_duckdb.py DIR THREADS. Writes DIR/duckdb.csv."""
import sys

import duckdb

directory, threads = sys.argv[1], int(sys.argv[2])
db = duckdb.connect(config={"threads": threads})
db.execute(f"""
copy (
  with p as (from read_csv('{directory}/portal.csv')), g as (from read_csv('{directory}/gateway.csv')),
  j as (
    select coalesce(p.txn_ref, g.txn_ref) txn_ref, coalesce(p.dossier_id, g.dossier_id) dossier_id,
           p.amount pa, g.amount ga, p.status ps, p.txn_ref pr, g.txn_ref gr
    from p full outer join g on p.txn_ref = g.txn_ref)
  select dossier_id, txn_ref, case
    when pr is null and dossier_id in (select dossier_id from p) then 'paid_twice'
    when pr is null then 'paid_not_recorded'
    when gr is null then 'recorded_not_paid'
    else 'amount_differs' end kind, pa, ga
  from j where pr is null or (gr is null and ps = 'paid') or pa <> ga
) to '{directory}/duckdb.csv' (header)
""")
