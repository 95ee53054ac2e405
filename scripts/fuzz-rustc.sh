#!/bin/sh
# RUSTC_WRAPPER of the fuzz build: leaves out what counts coverage for all crates but ours and the parsers that make sense
# of a fuzzed text. libFuzzer looks through every counter of the program after every run; those of the database, TLS and
# HTTP libraries are never touched and were most of its time.
rustc=$1
shift
name='' previous=''
for arg; do
    [ "$previous" = --crate-name ] && name=$arg
    previous=$arg
done
case "$name" in
ioc_watch* | promql_parser | serde_saphyr | granit_parser | serde_json | "" | build_script_build) exec "$rustc" "$@" ;;
esac
# Targets have short names of their own.
[ -n "${CARGO_BIN_NAME:-}" ] && exec "$rustc" "$@"
n=$#
while [ "$n" -gt 0 ]; do
    arg=$1
    shift
    n=$((n - 1))
    case "$arg" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Cllvm-args=-simplifycfg-branch-fold-threshold=*) ;;
    *) set -- "$@" "$arg" ;;
    esac
done
exec "$rustc" "$@"
