#!/bin/sh
# Reconciles two files of ROWS payments (default 1,000,000) with ioc-watch and with DuckDB (1 and 2 threads), interleaved,
# N times (default 5), and prints CPU seconds, wall seconds and peak memory of each run, their medians and ratios. Needs GNU
# time; DuckDB runs if PYTHON (default python3) can import it.
#
#   benches/reconcile.sh [ROWS] [N]
set -eu
rows=${1:-1000000}
repetitions=${2:-5}
python=${PYTHON:-python3}
binary=${BINARY:-target/release/ioc-watch}
here=$(dirname "$0")
[ -n "${BINARY:-}" ] || cargo build --release --locked --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

measure() {
    name=$1
    shift
    /usr/bin/time -f "$name cpu_user=%U cpu_system=%S wall=%e peak_kib=%M" "$@" >"$work/out" 2>"$work/err"
    grep cpu_user "$work/err" | tee -a "$work/runs"
}

echo "expected $("$python" "$here/reconcile_gen.py" "$work" "$rows")"
run_ours() {
    measure ioc-watch "$binary" reconcile --portal "$work/portal.csv" --gateway "$work/gateway.csv" \
        --out "$work/ours.csv" --format json
}
run_ours >/dev/null
: >"$work/runs"
echo "found    $(cat "$work/out")"
duckdb=no
"$python" -c 'import duckdb' 2>/dev/null && duckdb=yes || echo "DuckDB is not installed: measuring ioc-watch only"
for _ in $(seq "$repetitions"); do
    run_ours
    if [ $duckdb = yes ]; then
        measure duckdb-1 "$python" "$here/reconcile_duckdb.py" "$work" 1
        measure duckdb-2 "$python" "$here/reconcile_duckdb.py" "$work" 2
    fi
done
if [ $duckdb = yes ]; then
    echo "mismatches: ioc-watch $(($(wc -l <"$work/ours.csv") - 1)), DuckDB $(($(wc -l <"$work/duckdb.csv") - 1))"
fi
python3 - "$work/runs" <<'END'
import statistics, sys

runs = {}
for line in open(sys.argv[1]):
    name, *fields = line.split()
    value = {key: float(text) for key, text in (field.split("=") for field in fields)}
    runs.setdefault(name, []).append((value["cpu_user"] + value["cpu_system"], value["wall"], value["peak_kib"] / 1024))
medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in runs.items()}
for name, (cpu, wall, peak) in medians.items():
    ratios = " ".join(f"{a / b:.2f}" for a, b in zip(medians["ioc-watch"], (cpu, wall, peak)))
    print(f"RESULT reconcile: {name} {cpu:.2f} CPU s, {wall:.2f} wall s, {peak:.0f} MB; ioc-watch to it: {ratios}")
END
