#!/bin/sh
# The history: memory of a series, CPU of ranges over a week. See history_memory.rs and over_time.rs.
set -eu
cd "$(dirname "$0")/.."
cargo bench --quiet --bench history_memory
cargo bench --quiet --bench over_time
