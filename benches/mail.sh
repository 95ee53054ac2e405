#!/bin/sh
# 1,000 alerts to 1,000 mails beside Alertmanager. ROUNDS=5 in the environment; see mail.py.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
exec /usr/bin/python3 benches/mail.py "$@"
