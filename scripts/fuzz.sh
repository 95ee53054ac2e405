#!/bin/bash
# Runs every fuzz target for FUZZ_SECONDS (default 60), one after the other; `fuzz.sh TARGET…` only those. What made a
# target fail is kept under fuzz/artifacts.
#
# On the stable compiler: coverage needs no nightly, and sanitizers, which do, would find little in a program without
# `unsafe`.
set -euo pipefail
cd "$(dirname "$0")/.."
sh scripts/install-tools.sh cargo-fuzz
export PATH="$PWD/target/tools/bin:$PATH"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
# Our code keeps its checks, by the profile in fuzz/Cargo.toml; coverage is counted where it says something.
export RUSTC_WRAPPER="$PWD/scripts/fuzz-rustc.sh"
flags=(--sanitizer none --release --codegen-units 16)
# All at once, so that what they share is built once.
cargo fuzz build "${flags[@]}"
for target in "${targets[@]}"; do
    echo "== $target"
    mkdir -p "fuzz/corpus/$target"
    seeds=()
    [ -d "fuzz/seeds/$target" ] && seeds=("fuzz/seeds/$target")
    cargo fuzz run "${flags[@]}" "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -verbosity=1
done
