#!/bin/sh
# Writes what `ioc-watch check` prints now as the expected output of every bad file under tests/check. Read the diff: each
# changed line is a message that users see.
set -eu
cd "$(dirname "$0")/.."
cargo build --locked --quiet
binary=$PWD/target/debug/ioc-watch
cd tests/check
for file in *.yml; do
    env -i "$binary" check --config "$file" >"${file%.yml}.expected" || true
done
