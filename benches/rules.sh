#!/bin/sh
# 20 rules over 50,000 series every 15 s beside Prometheus. See rules.py for what the environment sets.
set -eu
cd "$(dirname "$0")/.."
exec /usr/bin/python3 benches/rules.py "$@"
