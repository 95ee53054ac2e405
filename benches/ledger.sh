#!/bin/sh
# The daemon's first load of ROWS payments a side (default 1,000,000), undisturbed and with kill -9 at ten random moments,
# and what a further batch of 10,000 rows costs; see ledger.py. Not in CI: a smaller version of it is a test.
#
#   benches/ledger.sh [ROWS]
set -eu
cd "$(dirname "$0")/.."
[ -n "${BINARY:-}" ] || cargo build --release --locked --quiet
exec /usr/bin/python3 benches/ledger.py "$@"
