#!/bin/sh
# 2,000 HTTPS services every 30 s on one core. SECONDS_MEASURED=120 and others in the environment; see services.py.
# `benches/services.sh --soak` measures for an hour and fails unless memory is flat.
set -eu
cd "$(dirname "$0")/.."
[ -n "${BINARY:-}" ] || cargo build --release --locked --quiet
exec /usr/bin/python3 benches/services.py "$@"
