#!/bin/sh
# CPU of an HTTPS check beside blackbox_exporter, RSA and ECDSA. ROUNDS=5 in the environment; see probe.py.
set -eu
cd "$(dirname "$0")/.."
exec /usr/bin/python3 benches/probe.py "$@"
