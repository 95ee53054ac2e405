#!/bin/sh
# Idle memory beside Prometheus, Alertmanager and blackbox_exporter. ROUNDS=5 in the environment; see idle.py.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
exec /usr/bin/python3 benches/idle.py "$@"
