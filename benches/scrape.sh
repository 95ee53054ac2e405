#!/bin/sh
# A scrape of 5,000 devices x 5 fields beside Debian's prometheus-mqtt-exporter. ROUNDS=5 in the environment; see scrape.py.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
exec /usr/bin/python3 benches/scrape.py "$@"
